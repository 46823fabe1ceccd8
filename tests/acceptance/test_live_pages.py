"""Live pages in a real browser: what moves, and what must not."""

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import insert, update
from werkzeug.serving import make_server

from flaskapp.extensions import db
from flaskapp.jobs.models import Job, Progress
from tests.integration.windows_fixtures import Site, make_site

NO_NETWORK = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    with site.app.app_context():
        db.engine.dispose()


@pytest.fixture
def page(site: Site, chromium: str) -> Iterator[Page]:
    """A browser window of somebody who is signed in; whatever it complains about fails the test."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    cookie = site.signed_in("olga", "operator").get_cookie("offload_session")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=NO_NETWORK)
        context = browser.new_context(base_url=address)
        context.add_cookies([{"name": "offload_session", "value": cookie.value, "url": address}])
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
    server.shutdown()
    assert complaints == []


def open_live(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("[data-live-sign=live]")).to_be_visible()
    # A mark that a reload would wipe out.
    page.locator("body").evaluate("body => { body.dataset.mark = 'kept'; }")


def assert_not_reloaded(page: Page) -> None:
    assert page.locator("body").get_attribute("data-mark") == "kept"


def test_progress_and_result_appear_without_a_reload(site: Site, page: Page) -> None:
    job_id = site.job("running")
    site.write(insert(Progress).values(job_id=job_id, attempt=1, current=10, total=100))
    open_live(page, f"/jobs/{job_id}")
    site.write(update(Progress).values(current=60))
    expect(page.locator(".pace-figure")).to_contain_text("60")
    site.write(update(Job).values(state="succeeded", finished_at=Job.started_at, result='{"rows": 7}'))
    expect(page.locator(".result")).to_contain_text("7")
    expect(page).to_have_title("Echo succeeded · Offload")
    assert_not_reloaded(page)


def test_what_is_unfolded_stays_unfolded(site: Site, page: Page) -> None:
    job_id = site.job("failed")
    open_live(page, f"/jobs/{job_id}")
    page.get_by_text("Traceback").click()
    site.write(update(Job).values(error_message="It has no header row, still.", finished_at=Job.created_at))
    expect(page.locator(".trouble-message")).to_contain_text("still")
    expect(page.locator(".fold pre")).to_be_visible()


def test_a_list_grows_above_and_waits_while_somebody_points_at_it(site: Site, page: Page) -> None:
    first = site.job("succeeded")
    open_live(page, "/jobs")
    page.mouse.move(1, 1)
    second = site.job(age=1)
    expect(page.locator("[data-rows] tr").first).to_have_attribute("data-key", second)
    page.locator(f"[data-key='{first}']").hover()
    third = site.job(age=0)
    expect(page.locator("[data-new-rows]")).to_contain_text("1 new job")
    expect(page.locator("[data-rows] tr").first).to_have_attribute("data-key", second)
    page.locator("[data-new-rows]").click()
    expect(page.locator("[data-rows] tr").first).to_have_attribute("data-key", third)
    assert_not_reloaded(page)


def test_an_empty_list_stands_still_until_its_first_job(site: Site, page: Page) -> None:
    open_live(page, "/jobs?state=failed")
    site.job("succeeded")
    page.wait_for_timeout(1000)
    assert_not_reloaded(page)
    site.job("failed")
    expect(page.locator("[data-rows] tr")).to_have_count(1)


def test_a_theme_that_was_chosen_is_kept(page: Page) -> None:
    page.goto("/jobs")
    page.locator(".rail [data-theme-switch]").click(click_count=2, delay=50)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_window(site: Site, page: Page, width: int) -> None:
    job_id = site.job("failed", task="t" * 255, owner="o" * 80, queue="q" * 64, error_message="e" * 4000)
    page.set_viewport_size({"width": width, "height": 844})
    overflowing = []
    for address in ("/", "/jobs", f"/jobs/{job_id}", "/queues", "/workers", "/schedules", "/uploads", "/account"):
        page.goto(address)
        wide, window = page.locator("html").evaluate("html => [html.scrollWidth, innerWidth]")
        overflowing += [(address, wide)] if wide > window else []
    assert overflowing == []
