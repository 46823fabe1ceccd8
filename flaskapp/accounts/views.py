"""The login page and the account page.

They read forms, call one action, commit once, and answer. What may be done stands in actions.py.
"""

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, logout_user
from werkzeug.exceptions import TooManyRequests

from flaskapp.accounts import actions, guessing
from flaskapp.accounts.audit import newest_entries
from flaskapp.accounts.forms import AccountForm, LoginForm, PasswordForm, TokenForm
from flaskapp.accounts.models import Account
from flaskapp.accounts.protection import public, requires, start_session
from flaskapp.errors import BadArguments
from flaskapp.extensions import db

accounts = Blueprint("accounts", __name__)


@accounts.route("/login", methods=["GET", "POST"])
@public
def login() -> ResponseReturnValue:
    target = safe_target(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target, 303)
    form = LoginForm()
    if not form.validate_on_submit():
        return render_template("accounts/login.html", form=form), 422 if form.is_submitted() else 200
    name, address = form.name.data or "", request.remote_addr or ""
    guessing.count_guess(name, address)
    account = actions.authenticate(db.session(), name, form.password.data or "")
    if account is None:
        guessing.guessed_wrong(address)
        db.session.commit()
        refusal = "That name and password do not match. Check both, capital letters too."
        return render_template("accounts/login.html", form=form, refusal=refusal), 401
    guessing.guessed_right(name)
    identity = actions.sign_in(db.session(), account, address)
    db.session.commit()
    start_session(identity)
    return redirect(target, 303)


@accounts.errorhandler(TooManyRequests)
def too_many(problem: TooManyRequests) -> ResponseReturnValue:
    if current_user.is_authenticated:
        flash(str(problem.description), "danger")
        page = _page()
    else:
        page = render_template("accounts/login.html", form=LoginForm(), refusal=problem.description)
    return page, 429, {"Retry-After": str(problem.retry_after)}


def safe_target(target: str | None) -> str:
    """Where to go after the login: a path of this site, whatever the link said."""
    # Browsers read \ as / and drop tabs and line ends, so `/\t/evil` would leave the site.
    inside = target and target.startswith("/") and not target.startswith("//")
    if not target or not inside or "\\" in target or any(ord(mark) <= 32 or ord(mark) == 127 for mark in target):
        return "/"
    return target


@accounts.post("/logout")
def logout() -> ResponseReturnValue:
    actions.sign_out(db.session(), current_user.key)
    db.session.commit()
    logout_user()
    session.clear()
    return redirect(url_for("accounts.login"), 303)


@accounts.get("/account")
def account() -> str:
    return _page()


@accounts.post("/account/password")
def change_password() -> ResponseReturnValue:
    form = PasswordForm()
    if not form.validate_on_submit():
        return _page(password_form=form), 422
    guessing.count_guess(current_user.name, request.remote_addr or "")
    mine = actions.authenticate(db.session(), current_user.name, form.current.data or "")
    if mine is None:
        db.session.commit()
        form.current.errors = ["This is not your current password."]
        return _page(password_form=form), 422
    guessing.guessed_right(mine.name)
    actions.change_password(db.session(), mine, form.password.data or "", keep_key=current_user.key)
    db.session.commit()
    flash("Your password is changed. Every other browser is signed out.", "success")
    return redirect(url_for("accounts.account"), 303)


@accounts.post("/account/tokens")
def create_token() -> ResponseReturnValue:
    form = TokenForm()
    if not form.validate_on_submit():
        return _page(token_form=form), 422
    try:
        token = actions.create_token(db.session(), _my_account(), form.name.data or "")
    except BadArguments as problem:
        form.name.errors = [str(problem)]
        return _page(token_form=form), 422
    db.session.commit()
    # Shown in this answer and nowhere else: not in an address, a cookie or a log.
    return _page(new_token=token)


@accounts.post("/account/tokens/<int:token_id>/revoke")
def revoke_token(token_id: int) -> ResponseReturnValue:
    if not actions.revoke_token(db.session(), current_user.account_id, token_id):
        abort(404)
    db.session.commit()
    flash("The token is revoked. Scripts that use it are refused from now on.", "success")
    return redirect(url_for("accounts.account"), 303)


@accounts.post("/account/people")
@requires("admin")
def add_account() -> ResponseReturnValue:
    form = AccountForm()
    if not form.validate_on_submit():
        return _page(account_form=form), 422
    name = form.name.data or ""
    try:
        actions.add_account(db.session(), name, form.role.data, form.password.data or "")
    except BadArguments as problem:
        form.name.errors = [str(problem)]
        return _page(account_form=form), 422
    db.session.commit()
    flash(f"{name} may come in now.", "success")
    return redirect(url_for("accounts.account"), 303)


@accounts.post("/account/people/<int:account_id>/<any(activate, deactivate):verb>")
@requires("admin")
def set_active(account_id: int, verb: str) -> ResponseReturnValue:
    person = db.session.get(Account, account_id) or abort(404)
    if person.id == current_user.account_id:
        abort(409, "You cannot close your own account. Ask another admin.")
    actions.set_active(db.session(), person, verb == "activate")
    db.session.commit()
    flash(f"{person.name} {'may come in again' if person.is_active else 'is signed out and locked out'}.", "success")
    return redirect(url_for("accounts.account"), 303)


def _my_account() -> Account:
    return db.session.get_one(Account, current_user.account_id)


def _page(
    password_form: PasswordForm | None = None,
    token_form: TokenForm | None = None,
    account_form: AccountForm | None = None,
    new_token: str = "",
) -> str:
    is_admin = current_user.may("admin")
    return render_template(
        "accounts/account.html",
        # Each form answers only to its own button; the others stay empty.
        password_form=password_form or PasswordForm(formdata=None),
        token_form=token_form if token_form and not new_token else TokenForm(formdata=None),
        account_form=account_form or AccountForm(formdata=None),
        new_token=new_token,
        tokens=actions.tokens(db.session(), current_user.account_id),
        people=actions.accounts(db.session()) if is_admin else [],
        entries=newest_entries(db.session(), account=None if is_admin else current_user.name),
    )
