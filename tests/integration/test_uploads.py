"""What becomes of a table that was taken: its types, its bad rows, its page."""

import csv
import html
import io
import re

import pytest
import sqlalchemy as sa
from vega_datasets import data as datasets

from flaskapp.jobs.models import JobState
from tests.integration.doors_fixtures import csrf_of
from tests.integration.upload_fixtures import BAD_ROW, TABLE, Site, post, site, unescaped, uploads_bench  # noqa: F401 -- fixtures


def types_of(page: str) -> dict[str, str]:
    """Column name → type, as the profile on the page says."""
    table = page.split('class="profile"')[1].split("</table>")[0]
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>\s*<td[^>]*>(.*?)</td>', table, re.DOTALL)
    return {_text(name): _text(kind) for name, kind in rows}


def _text(html: str) -> str:
    return unescaped(re.sub(r"<svg.*?</svg>|<[^>]+>", "", html, flags=re.DOTALL)).strip()


REAL = {
    "airports": {"iata": "text", "name": "text", "latitude": "decimal", "longitude": "decimal"},
    "seattle_weather": {"date": "date", "precipitation": "decimal", "weather": "text"},
    "iowa_electricity": {"year": "date", "source": "text", "net_generation": "integer"},
    "us_employment": {"month": "date", "nonfarm": "integer", "nonfarm_change": "integer"},
    "la_riots": {"first_name": "text", "age": "integer", "latitude": "decimal"},
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_table_is_loaded_with_its_types(site: Site, name: str):
    content = getattr(datasets, name).raw()
    expected = list(csv.reader(io.StringIO(content.decode())))
    upload = site.load(content, f"{name}.csv")

    assert upload.rows + upload.bad_rows == len(expected) - 1
    assert upload.bad_rows == 0
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    found = types_of(page)
    assert list(found) == expected[0]
    assert found.items() >= REAL[name].items()
    assert "histogram" in page
    assert expected[1][-1] in page


def test_every_value_of_a_real_table_stands_in_its_table(site: Site):
    content = datasets.airports.raw()
    upload = site.load(content, "airports.csv")
    with site.bench.engine.connect() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {upload.table_name} ORDER BY row_number")).all()
    expected = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row.name for row in rows] == [row["name"].strip() or None for row in expected]
    assert [row.latitude for row in rows] == [float(row["latitude"]) for row in expected]


def test_the_jobs_page_names_the_table_and_shows_its_profile(site: Site):
    upload = site.load(datasets.airports.raw(), "airports.csv")
    page = site.signed_in().get(f"/jobs/{upload.job_id}").text
    assert "<title>Table airports.csv succeeded" in page
    assert types_of(page)["latitude"] == "decimal"
    assert "uploads.css" in page
    assert "uploads.css" not in site.signed_in().get("/jobs").text


def test_a_loaded_table_leads_to_a_question_about_it_and_to_mail_to_its_rows(site: Site):
    upload = site.load(TABLE, "Tall people.csv")
    browser = site.signed_in()
    page = browser.get(f"/uploads/{upload.id}").text
    ask, write = (html.unescape(found) for found in re.findall(r'<a class="btn btn-quiet" href="([^"]+)"', page))
    assert f"SELECT *\nFROM tall_people_{upload.id[:6]}\nLIMIT 100</textarea>" in browser.get(ask).text
    assert "Mail merge with Tall people.csv" in browser.get(write).text


def test_a_file_that_turns_out_bad_only_later_fails_its_job_with_a_sentence(site: Site):
    browser = site.signed_in()
    assert post(browser, TABLE).status_code == 303
    upload = site.only_upload()
    site.storage.path(upload.id).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    site.bench.run()
    page = browser.get(f"/jobs/{upload.job_id}").text
    assert site.bench.state(upload.job_id) == JobState.FAILED
    assert "This is a PNG picture, not a text table" in page
    assert browser.get(f"/uploads/{upload.id}").location == f"/jobs/{upload.job_id}"


def test_bad_rows_are_listed_with_their_reasons_and_do_not_sink_the_rest(site: Site):
    upload = site.load(BAD_ROW)
    assert (upload.rows, upload.bad_rows) == (10, 1)
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    assert f"/uploads/{upload.id}/bad-rows.csv" in page
    assert "1 row was left out" in page


def test_downloaded_bad_rows_run_nothing_in_a_spreadsheet(site: Site):
    formulas = ["=1+1", "+1+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1"]
    content = BAD_ROW + "".join(f"{formula}\n" for formula in formulas).encode()
    upload = site.load(content)
    download = site.signed_in().get(f"/uploads/{upload.id}/bad-rows.csv")
    rows = list(csv.reader(io.StringIO(download.text.lstrip("\ufeff"))))[1:]
    assert download.mimetype == "text/csv"
    assert len(rows) == 1 + len(formulas)
    for row in rows:
        assert not re.match(r"[=+@\t\r-]", row[2]), row


def test_a_table_without_bad_rows_has_none_to_download(site: Site):
    upload = site.load(TABLE)
    assert site.signed_in().get(f"/uploads/{upload.id}/bad-rows.csv").status_code == 404


def test_the_sample_table_shows_what_there_is_to_see(site: Site):
    browser = site.signed_in()
    answer = browser.post("/uploads/sample", data={"csrf_token": csrf_of(browser, "/uploads")})
    site.bench.run()
    upload = site.only_upload()
    assert answer.location == f"/jobs/{upload.job_id}"
    assert (upload.rows, upload.bad_rows) == (1460, 3)


def test_html_in_cells_and_column_names_stays_text(site: Site):
    evil = "<script>alert(1)</script>"
    upload = site.load(f"{evil},b\n{evil},1\n{evil},2\n".encode())
    page = site.signed_in().get(f"/uploads/{upload.id}").text
    assert evil not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
