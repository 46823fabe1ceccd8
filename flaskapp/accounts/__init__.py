"""Accounts: who may come in, with which role, and what they did."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Close every door of `app` that is not marked public. Call it before the rooms behind the doors."""
    from flaskapp.accounts import audit, guessing, headers, protection
    from flaskapp.accounts.views import accounts

    headers.init_app(app)
    audit.init_app(app)
    guessing.init_app(app)
    protection.init_app(app)
    app.register_blueprint(accounts)
