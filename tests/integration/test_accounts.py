"""Who comes in, and who does not: accounts, sign-ins, tokens, roles, CSRF, the audit log."""

import logging
import re
from http.cookies import SimpleCookie

import pytest
from sqlalchemy import select

from flaskapp.accounts import actions, guessing
from flaskapp.accounts.models import Account, AuditEntry, SignIn, Token
from flaskapp.accounts.views import safe_target
from flaskapp.extensions import db
from tests.integration.doors_fixtures import PASSWORD, Doors, csrf_of, sign_in

OPEN_ENDPOINTS = {"static", "assets.bootstrap_css", "accounts.login", "health.healthz", "health.readyz"}
#: For strangers: the contact form, and leaving by a signed link (which is why that one needs no CSRF token).
OPEN_ENDPOINTS |= {"contact.form", "contact.send", "leaving.ask", "leaving.leave"}


def cookie_of(response) -> str:
    return response.headers.get("Set-Cookie", "")


def addresses(app, method):
    """Every address that takes `method`, with something plausible in its variable parts."""
    for rule in app.url_map.iter_rules():
        if method in rule.methods and rule.endpoint not in OPEN_ENDPOINTS and not rule.endpoint.endswith(".static"):
            path = re.sub(r"<any\((\w+).*?>", r"\1", rule.rule)
            path = re.sub(r"<int:\w+>", "1", path)
            yield re.sub(r"<[^>]+>", "x", path)


# --- closed by default ------------------------------------------------------------------------------------


def test_every_page_needs_an_account(doors: Doors):
    stranger = doors.browser()
    for path in addresses(doors.app, "GET"):
        answer = stranger.get(path)
        assert answer.status_code in (303, 401), path
        assert answer.status_code == 401 or answer.location.startswith("/login"), path


def test_every_changing_route_needs_an_account(doors: Doors):
    stranger = doors.browser()
    for path in addresses(doors.app, "POST"):
        assert stranger.post(path).status_code in (303, 401), path


def test_every_changing_route_needs_the_csrf_token(doors: Doors):
    browser = doors.signed_in("root", "admin")
    for path in [*addresses(doors.app, "POST"), "/login", "/contact"]:
        assert browser.post(path, data={"csrf_token": "forged"}).status_code == 400, path


def test_a_csrf_token_of_another_session_is_refused(doors: Doors):
    other = csrf_of(doors.signed_in("eve"), "/account")
    browser = doors.signed_in("ada")
    assert browser.post("/account/tokens", data={"name": "x", "csrf_token": other}).status_code == 400


def test_a_csrf_token_in_the_header_is_enough(doors: Doors):
    browser = doors.signed_in()
    token = csrf_of(browser, "/account")
    answer = browser.post("/account/tokens", data={"name": "nightly"}, headers={"X-CSRFToken": token})
    assert answer.status_code == 200


def test_a_stranger_gets_everything_that_the_login_page_needs(doors: Doors):
    stranger = doors.browser()
    for address in re.findall(r'(?:src|href)="(/[^"]+\.(?:css|js|svg)[^"]*)"', stranger.get("/login").text):
        assert stranger.get(address).status_code == 200, address


def test_a_new_view_is_closed_until_it_is_marked_public(doors: Doors):
    from flaskapp.accounts.protection import public

    doors.app.add_url_rule("/new", "new", lambda: "secret")
    doors.app.add_url_rule("/open", "open", public(lambda: "hello"))
    assert doors.browser().get("/new").status_code == 303
    assert doors.browser().get("/open").text == "hello"


# --- the login page ---------------------------------------------------------------------------------------


def test_the_right_password_opens_and_the_wrong_one_does_not(doors: Doors):
    doors.account("ada")
    browser = doors.browser()
    assert sign_in(browser, "ada", "wrong").status_code == 401
    assert browser.get("/account").status_code == 303
    assert sign_in(browser, "ada").status_code == 303
    assert "ada" in browser.get("/account").text


def test_after_signing_in_one_is_where_one_wanted_to_go(doors: Doors):
    doors.account("ada")
    browser = doors.browser()
    asked = browser.get("/account?tab=tokens")
    assert asked.location == "/login?next=/account?tab%3Dtokens"
    assert sign_in(browser, "ada", target=asked.location).location == "/account?tab=tokens"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        " //evil.example",
        "///evil.example",
        "",
        None,
    ],
)
def test_a_login_link_cannot_lead_off_the_site(target):
    assert safe_target(target) == "/"


def test_an_off_site_target_is_ignored_over_http(doors: Doors):
    doors.account("ada")
    answer = sign_in(doors.browser(), "ada", target="/login?next=//evil.example/x")
    assert answer.location == "/"


def test_a_session_from_before_the_sign_in_is_not_the_one_after_it(doors: Doors):
    doors.account("ada")
    browser = doors.browser()
    planted = csrf_of(browser)
    before = browser.get_cookie("offload_session").value
    sign_in(browser, "ada")
    after = browser.get_cookie("offload_session").value
    assert after != before
    assert browser.post("/account/tokens", data={"name": "x", "csrf_token": planted}).status_code == 400
    planted_browser = doors.browser()
    planted_browser.set_cookie("offload_session", before)
    assert planted_browser.get("/account").status_code == 303


def test_signing_out_makes_a_copied_cookie_worthless(doors: Doors):
    browser = doors.signed_in()
    copied = browser.get_cookie("offload_session").value
    browser.post("/logout", data={"csrf_token": csrf_of(browser, "/account")})
    thief = doors.browser()
    thief.set_cookie("offload_session", copied)
    assert thief.get("/account").status_code == 303


def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(doors: Doors):
    cookie = cookie_of(doors.browser().get("/login"))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_over_https_the_session_cookie_is_secure(doors: Doors):
    assert "Secure" in cookie_of(doors.browser().get("/login", base_url="https://localhost"))


def test_the_session_cookie_holds_no_secret_of_the_database(doors: Doors):
    browser = doors.signed_in()
    cookie = SimpleCookie(f"offload_session={browser.get_cookie('offload_session').value}")
    with doors.session() as session:
        assert session.scalar(select(SignIn.key_hash)) not in cookie["offload_session"].value


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_guessing_stops_after_ten_tries_for_known_and_unknown_names(doors: Doors, name: str):
    doors.account("ada")
    browser = doors.browser()
    answers = [sign_in(browser, name, f"guess {n}").status_code for n in range(11)]
    assert answers == [401] * 10 + [429]


def test_while_guessing_is_stopped_the_right_password_is_refused_too(doors: Doors):
    doors.account("ada")
    browser = doors.browser()
    for n in range(10):
        sign_in(browser, "ada", f"guess {n}")
    refused = sign_in(browser, "ada")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "300"


def test_one_address_cannot_try_one_password_on_many_names(doors: Doors, monkeypatch):
    monkeypatch.setattr(actions.passwords, "matches", lambda *_: False)
    browser = doors.browser()
    answers = [sign_in(browser, f"name{n}", "summer").status_code for n in range(51)]
    assert answers == [401] * 50 + [429]


def test_the_right_password_forgets_the_wrong_ones_before(doors: Doors):
    doors.account("ada")
    for _ in range(3):
        browser = doors.browser()
        for n in range(6):
            sign_in(browser, "ada", f"guess {n}")
        assert sign_in(browser, "ada").status_code == 303


def test_ipv6_neighbours_count_as_one():
    assert guessing.network("2001:db8::1") == guessing.network("2001:db8::ffff")
    assert guessing.network("2001:db8:0:1::1") != guessing.network("2001:db8::1")


def test_an_unknown_name_is_checked_as_slowly_as_a_known_one(doors: Doors, monkeypatch):
    checked = []
    monkeypatch.setattr(actions.passwords, "check_password_hash", lambda hash_, _: checked.append(hash_))
    doors.account("ada")
    sign_in(doors.browser(), "ada", "x")
    sign_in(doors.browser(), "nobody", "x")
    assert len(checked) == 2
    assert checked[1].startswith("scrypt:")


@pytest.mark.parametrize("name", ["a\0b", "a" * 81, "'; DROP TABLE account; --", "{{ config }}", "<img onerror=x>"])
def test_strange_names_are_refused_in_peace(doors: Doors, name: str):
    answer = sign_in(doors.browser(), name)
    assert answer.status_code in (401, 422)
    assert "<img onerror" not in answer.text


def test_a_locked_out_account_loses_its_sign_ins_and_tokens(doors: Doors):
    script, browser = doors.script("ada"), doors.signed_in("ada")
    assert doors.run("users", "deactivate", "ada").exit_code == 0
    assert browser.get("/account").status_code == 303
    assert script.get("/stats").status_code == 401
    assert sign_in(doors.browser(), "ada").status_code == 401


# --- the account page -------------------------------------------------------------------------------------


def test_a_changed_password_signs_out_every_other_browser(doors: Doors):
    mine, other = doors.signed_in("ada"), doors.signed_in("ada")
    form = {"current": PASSWORD, "password": "a longer one", "again": "a longer one"}
    answer = mine.post("/account/password", data={**form, "csrf_token": csrf_of(mine, "/account")})
    assert answer.status_code == 303
    assert mine.get("/account").status_code == 200
    assert other.get("/account").status_code == 303
    assert sign_in(doors.browser(), "ada").status_code == 401
    assert sign_in(doors.browser(), "ada", "a longer one").status_code == 303


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"current": "wrong", "password": "a longer one", "again": "a longer one"}, "not your current password"),
        ({"current": PASSWORD, "password": "short", "again": "short"}, "8 to 1,000 characters"),
        ({"current": PASSWORD, "password": "a longer one", "again": "another one"}, "two new passwords differ"),
        ({}, "Write your current password."),
    ],
)
def test_a_password_that_cannot_be_changed_says_why(doors: Doors, form, sentence):
    browser = doors.signed_in()
    answer = browser.post("/account/password", data={**form, "csrf_token": csrf_of(browser, "/account")})
    assert answer.status_code == 422
    assert sentence in answer.text


def make_token(browser, name="nightly") -> str:
    answer = browser.post("/account/tokens", data={"name": name, "csrf_token": csrf_of(browser, "/account")})
    return re.search(r"offload_[\w-]{43}", answer.text)[0]


def test_a_token_is_shown_once_and_kept_as_a_hash(doors: Doors):
    browser = doors.signed_in()
    token = make_token(browser)
    assert token not in browser.get("/account").text
    with doors.session() as session:
        row = session.scalar(select(Token))
        assert token not in (row.token_hash, row.prefix, row.name)


def test_a_token_works_until_it_is_revoked(doors: Doors):
    browser = doors.signed_in()
    headers = {"Authorization": f"Bearer {make_token(browser)}"}
    assert doors.browser().get("/api/v1/stats", headers=headers).status_code == 200
    browser.post("/account/tokens/1/revoke", data={"csrf_token": csrf_of(browser, "/account")})
    assert doors.browser().get("/api/v1/stats", headers=headers).status_code == 401


def test_nobody_can_revoke_the_token_of_another(doors: Doors):
    script, eve = doors.script("ada"), doors.signed_in("eve", "admin")
    answer = eve.post("/account/tokens/1/revoke", data={"csrf_token": csrf_of(eve, "/account")})
    assert answer.status_code == 404
    assert script.get("/stats").status_code == 200


def test_when_a_token_was_last_used_is_written_at_most_once_a_minute(doors: Doors):
    script = doors.script()
    script.get("/stats")
    with doors.session() as session:
        first = session.scalar(select(Token.last_used_at))
    script.get("/stats")
    with doors.session() as session:
        assert first is not None
        assert session.scalar(select(Token.last_used_at)) == first


def test_a_token_opens_the_api_but_no_page(doors: Doors):
    script = doors.script()
    headers = {"Authorization": f"Bearer {script.token}"}
    assert doors.browser().get("/account", headers=headers).status_code == 303


def test_a_token_in_an_address_opens_nothing(doors: Doors):
    script = doors.script()
    for name in ("token", "access_token", "api_key"):
        assert doors.browser().get(f"/api/v1/stats?{name}={script.token}").status_code == 401


def test_a_wrong_token_is_refused_though_the_cookie_is_right(doors: Doors):
    browser = doors.signed_in()
    assert browser.get("/api/v1/stats").status_code == 200
    assert browser.get("/api/v1/stats", headers={"Authorization": "Bearer offload_wrong"}).status_code == 401


def test_passwords_and_tokens_are_in_no_log_and_no_audit_entry(doors: Doors, caplog):
    caplog.set_level(logging.DEBUG)
    browser = doors.signed_in()
    sign_in(doors.browser(), "hunter2hunter2", "hunter3hunter3")
    token = make_token(browser)
    doors.browser().get("/api/v1/stats", headers={"Authorization": f"Bearer {token}"})
    with doors.session() as session:
        written = " ".join(f"{e.account} {e.subject} {e.detail}" for e in session.scalars(select(AuditEntry)))
    for secret in (PASSWORD, token, "hunter2hunter2", "hunter3hunter3"):
        assert secret not in caplog.text
        assert secret not in written


def test_an_admin_adds_accounts_and_a_viewer_does_not(doors: Doors):
    form = {"name": "new", "role": "admin", "password": "long enough"}
    for role, expected in (("viewer", 403), ("operator", 403), ("admin", 303)):
        browser = doors.signed_in(role, role)
        answer = browser.post("/account/people", data={**form, "csrf_token": csrf_of(browser, "/account")})
        assert answer.status_code == expected


def test_a_password_form_cannot_raise_ones_role(doors: Doors):
    browser = doors.signed_in("ada", "viewer")
    form = {"current": PASSWORD, "password": "a longer one", "again": "a longer one", "role": "admin", "id": "7"}
    browser.post("/account/password", data={**form, "csrf_token": csrf_of(browser, "/account")})
    with doors.session() as session:
        assert session.scalar(select(Account.role)) == "viewer"


def test_a_name_is_never_used_twice(doors: Doors):
    doors.account("ada")
    browser = doors.signed_in("root", "admin")
    form = {"name": "ada", "role": "viewer", "password": "long enough", "csrf_token": csrf_of(browser, "/account")}
    answer = browser.post("/account/people", data=form)
    assert answer.status_code == 422
    assert "The name ada is taken." in answer.text


def test_an_admin_cannot_lock_out_themselves(doors: Doors):
    browser = doors.signed_in("root", "admin")
    answer = browser.post("/account/people/1/deactivate", data={"csrf_token": csrf_of(browser, "/account")})
    assert answer.status_code == 409


# --- the audit log and the headers ------------------------------------------------------------------------


def test_a_changing_view_that_forgot_its_audit_entry_gets_one(doors: Doors):
    doors.app.add_url_rule("/thing/<thing_id>", "thing", lambda thing_id: "done", methods=["POST"])
    browser = doors.signed_in()
    browser.post("/thing/7", headers={"X-CSRFToken": csrf_of(browser, "/account")})
    with doors.session() as session:
        newest = session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
        assert (newest.account, newest.action, newest.subject) == ("ada", "thing", "7")


def test_a_viewer_sees_only_their_own_audit_entries(doors: Doors):
    doors.signed_in("bob")
    page = doors.signed_in("ada").get("/account").text
    assert "bob" not in page


def test_every_answer_carries_the_security_headers(doors: Doors):
    browser = doors.signed_in()
    for path in ("/login", "/account", "/api/v1/stats", "/no/such/page", "/static/nothing.css"):
        headers = browser.get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]


def test_what_only_one_person_may_see_is_not_kept_by_caches(doors: Doors):
    browser = doors.signed_in()
    assert browser.get("/account").headers["Cache-Control"] == "no-store"
    assert browser.get("/api/v1/jobs").headers["Cache-Control"] == "no-store"


def test_the_pages_of_accounts_have_no_inline_script_or_style(doors: Doors):
    browser = doors.signed_in("root", "admin")
    for page in (browser.get("/account").text, doors.browser().get("/login").text):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)


def test_an_address_with_nul_is_not_found_anywhere(doors: Doors):
    browser = doors.signed_in("root", "admin")
    headers = {"X-CSRFToken": csrf_of(browser, "/account")}
    for rule in doors.app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "%00", rule.rule)
        if path != rule.rule:
            method = min(rule.methods - {"HEAD", "OPTIONS"})
            answer = browser.open(path, method=method, headers=headers)
            assert answer.status_code == 404, path


def test_expired_sign_ins_open_nothing(doors: Doors):
    browser = doors.signed_in()
    with doors.app.app_context():
        from datetime import timedelta

        row = db.session.scalar(select(SignIn))
        row.created_at -= timedelta(seconds=actions.SIGN_IN_SECONDS)
        db.session.commit()
    assert browser.get("/account").status_code == 303


def test_every_page_has_one_title_and_every_label_leads_to_a_field_of_its_own(doors: Doors):
    browser = doors.signed_in("root", "admin")
    for path in (
        "/account",
        "/login",
        "/uploads",
        "/mail/new",
        "/mail/templates",
        "/mail/unwanted",
        "/query",
        "/queues",
        "/no-such-page",
    ):
        page = browser.get(path, follow_redirects=True).text
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), path
        assert page.count("<h1") == 1, path
        assert set(re.findall(r'<label[^>]*\sfor="([^"]+)"', page)) <= set(ids), path
