"""Whose a table is, and what its name may be: shown harmlessly, never a path."""

import re

import pytest

from tests.integration.upload_fixtures import (  # noqa: F401 -- fixtures
    BAD_ROW,
    TABLE,
    Site,
    assert_nothing_kept,
    part,
    post_raw,
    site,
    uploads_bench,
)

# --- names ------------------------------------------------------------------------------------------------

NAMES = {
    "../../../etc/passwd": "passwd",
    "..": "table",
    "報告.csv": "報告.csv",
    "x" * 400 + ".csv": "x" * 195 + "….csv",
    "-rf.csv": "-rf.csv",
    "CON.txt": "CON.txt",
    "x.jpg.html": "x.jpg.html",
    "a\0b.csv": "ab.csv",
    "a.csv\r\nSet-Cookie: owned=1": "a.csvSet-Cookie: owned=1",
    "<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
    'quote";filename="evil.exe.csv': 'quote";filename="evil.exe.csv',
    "\u202egpj.csv": "gpj.csv",
    "C:\\fakepath\\real.csv": "real.csv",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_a_name_is_shown_harmlessly_and_is_never_a_path(site: Site, name: str):
    browser = site.signed_in()
    # As browsers write it: quotes and line ends percent-encoded; the rest as it is.
    sent = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    assert post_raw(browser, part(f'name="file"; filename="{sent}"'.encode(), BAD_ROW)).status_code == 303
    site.bench.run()
    upload = site.only_upload()

    shown = NAMES[name]
    # Who percent-encodes and who decodes differs, as does a backslash before a letter; each is harmless.
    assert upload.name in (shown, sent, name.replace("\\", ""))
    assert [path.name for path in site.files()] == [upload.id]
    for address in ("/uploads", f"/uploads/{upload.id}", f"/jobs/{upload.job_id}"):
        page = browser.get(address)
        assert page.status_code == 200
        assert "<img src=x" not in page.text
    download = browser.get(f"/uploads/{upload.id}/bad-rows.csv")
    disposition = download.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename")
    assert not re.search(r'[\r\n\0/\\](?!")', disposition)
    assert "Set-Cookie" not in dict(download.headers)
    assert download.headers["X-Content-Type-Options"] == "nosniff"


def test_raw_line_ends_in_a_name_start_no_header(site: Site):
    sent = part(b'name="file"; filename="a\r\nX-Evil: 1.csv"', TABLE)
    answer = post_raw(site.signed_in(), sent)
    assert "X-Evil" not in dict(answer.headers)
    assert answer.status_code in (303, 400, 422)
    if answer.status_code != 303:
        assert_nothing_kept(site, answer)


# --- who sees it ------------------------------------------------------------------------------------------


def test_another_users_upload_is_not_there(site: Site):
    upload = site.load(BAD_ROW, by="ada")
    eve, script = site.signed_in("eve"), site.script("eve")
    for address in (f"/uploads/{upload.id}", f"/uploads/{upload.id}/bad-rows.csv", f"/jobs/{upload.job_id}"):
        assert eve.get(address).status_code == 404, address
    assert script.get(f"/uploads/{upload.id}").status_code == 404
    assert upload.name not in eve.get("/uploads").text
    assert site.signed_in("olga", "operator").get(f"/uploads/{upload.id}").status_code == 200


@pytest.mark.parametrize("upload_id", ["nothing", "0" * 36, "..%2F..", "' OR 1=1 --"])
def test_an_id_that_never_was_is_not_there(site: Site, upload_id: str):
    assert site.signed_in().get(f"/uploads/{upload_id}").status_code == 404


# --- whose table it is ------------------------------------------------------------------------------------


def test_another_job_cannot_load_an_upload_again(site: Site):
    upload = site.load(BAD_ROW)
    kept = site.tables()
    job_id = site.bench.submit("uploads.load_table", upload.id)
    site.bench.run()
    assert site.bench.result(job_id).state == "REVOKED"
    assert site.tables() == kept
