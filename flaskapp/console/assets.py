"""Bootstrap's stylesheet, served from the installed package: nothing is fetched from elsewhere or copied here.

Public, like everything in static/: the sign-in page needs it.
"""

import gzip
from hashlib import sha256
from pathlib import Path

import flask_bootstrap
from flask import Flask, Response, current_app, request, url_for

_YEAR = 31_536_000


def init_app(app: Flask) -> None:
    stylesheet = Path(flask_bootstrap.__file__).parent / "static/bootstrap5/css/bootstrap.min.css"
    # Its map is not served, so the browser should not ask for it.
    plain = stylesheet.read_bytes().partition(b"/*# sourceMappingURL")[0]
    packed, version = gzip.compress(plain, mtime=0), sha256(plain).hexdigest()[:12]

    def bootstrap_css() -> Response:
        response = Response(mimetype="text/css")
        if request.accept_encodings.quality("gzip"):
            response.data = packed
            response.headers["Content-Encoding"] = "gzip"
        else:
            response.data = plain
        response.headers.update({"Cache-Control": f"public, max-age={_YEAR}, immutable", "Vary": "Accept-Encoding"})
        return response

    # The mark that accounts/protection.py reads.
    bootstrap_css.is_public = True  # type: ignore[attr-defined]
    app.add_url_rule("/assets/bootstrap.min.css", "assets.bootstrap_css", bootstrap_css)
    app.jinja_env.globals["bootstrap_css_url"] = lambda: url_for("assets.bootstrap_css", v=version)
    app.jinja_env.globals["icons_url"] = icons_url


def icons_url() -> str:
    """A list has hundreds of icons: building this address by url_for each time took a fifth of the page."""
    return f"{request.script_root}{current_app.static_url_path}/icons.svg"
