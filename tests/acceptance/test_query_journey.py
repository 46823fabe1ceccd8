"""From a table to its chart and a question that runs by itself, in a real browser, on what `make up` starts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.installation import Installation, installation
from tests.acceptance.test_browser_journey import (  # noqa: F401 -- fixtures
    AIRPORTS,
    PATIENCE,
    browser,
    complaints,
    page,
    page_without_script,
    sign_in,
    signed_in,
)

ENDLESS = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 900) "
    "SELECT count(*) FROM t a, t b, t c, t d"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("site")) as running:
        yield running


def test_a_table_is_asked_charted_and_asked_again_every_morning(page: Page, tmp_path: Path) -> None:
    page.goto("/uploads")
    page.set_input_files("#file", str(AIRPORTS))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".figures").first).to_contain_text("3,376", timeout=PATIENCE)
    page.goto("/query")
    name = page.locator(".query-table summary code").first.inner_text()
    assert name.startswith("airports_")
    page.locator("#sql").fill(f"SELECT state, count(*) AS airports FROM {name} GROUP BY state ORDER BY 2 DESC LIMIT 9")
    page.locator("#sql").press("Control+Enter")
    # It comes live: the page was there before the answer.
    expect(page.locator(".query-answer tbody tr")).to_have_count(9, timeout=PATIENCE)
    expect(page.locator(".query-chart svg .bar")).to_have_count(9)
    assert page.locator(".query-chart svg .bar rect").first.bounding_box()["height"] > 100  # type: ignore[index]
    page.get_by_label("Chart").select_option("histogram")
    page.wait_for_url(re.compile("chart=histogram"))
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "AK,263" in Path(download.value.path()).read_text()
    page.get_by_placeholder("Name to keep it under").fill("Airports by state")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Rhythm").fill("0 7 * * *")
    page.get_by_role("button", name="Keep these settings").click()
    expect(page.get_by_role("status")).to_contain_text("It runs by itself now")


def test_a_closed_page_stops_its_question(page: Page) -> None:
    page.goto("/query")
    page.locator("#sql").fill(ENDLESS)
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".query-run .state")).to_have_text("running", timeout=PATIENCE)
    # Loading it again is no farewell.
    page.reload()
    expect(page.locator(".query-run .state")).to_have_text("running", timeout=PATIENCE)
    job = page.get_by_role("link", name="Job", exact=True).get_attribute("href")
    other = page.context.new_page()
    page.close(run_before_unload=True)
    other.goto(str(job))
    expect(other.locator(".job-head .state")).to_have_text("failed", timeout=PATIENCE)
    expect(other.locator(".trouble-message")).to_contain_text("page that asked was closed")


def test_a_question_is_answered_without_script(page_without_script: Page) -> None:
    page = page_without_script
    sign_in(page)
    page.goto("/query")
    page.locator("#sql").fill("SELECT 6 * 7 AS answer, 'x' AS word")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".query-answer tbody")).to_contain_text("42", timeout=PATIENCE)
