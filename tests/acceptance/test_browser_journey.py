"""What a person does, in a real browser, on what `make up` starts: SQLite and the embedded broker.

Every page is watched: an error in the console, a failed script or a breach of the content security policy fails
the test that caused it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import vega_datasets
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from tests.acceptance.installation import PASSWORD, Installation, installation

AIRPORTS = Path(vega_datasets.__file__).parent / "_data" / "airports.csv"
#: Loading a table takes a second or two; two cores may be busy with something else.
PATIENCE = 30_000
#: The browser's own note about a refusal that the page itself shows as a sentence.
_REFUSAL = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")
_WATCH_POLICY = """
    addEventListener("securitypolicyviolation", (event) => console.error(
        `policy: ${event.violatedDirective} forbids ${event.blockedURI} in ${event.sourceFile}`));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root, in a container: Chromium's own sandbox is not to be had there.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser complained about; must be empty at the end."""
    found: list[str] = []
    yield found
    assert found == []


def watched(context: BrowserContext, complaints: list[str]) -> Page:
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.add_init_script(_WATCH_POLICY)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.on(
        "console",
        lambda message: (
            complaints.append(f"{page.url}: {message.text}")
            if message.type in ("error", "warning") and not _REFUSAL.match(message.text)
            else None
        ),
    )
    return page


@pytest.fixture(scope="module")
def signed_in(site: Installation, browser: Browser) -> str:
    """The cookies of a person who has signed in, as Playwright keeps them."""
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    sign_in(page)
    state = json.dumps(context.storage_state())
    context.close()
    return state


@pytest.fixture
def page(site: Installation, browser: Browser, signed_in: str, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(base_url=site.url, storage_state=json.loads(signed_in))
    yield watched(context, complaints)
    context.close()


@pytest.fixture
def page_without_script(site: Installation, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def sign_in(page: Page) -> None:
    page.goto("/login")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/$"))


def stay(page: Page) -> None:
    """Mark the document: a reload would take the mark away."""
    page.evaluate("window.stillHere = true")


def has_stayed(page: Page) -> bool:
    return bool(page.evaluate("window.stillHere === true"))


def badge(page: Page) -> str:
    return page.locator(".job-head .state").inner_text()


def expect_state(page: Page, state: str) -> None:
    expect(page.locator(".job-head .state")).to_have_text(state, timeout=PATIENCE)


def expect_profile_of_airports(page: Page) -> None:
    expect(page.locator(".figures").first).to_contain_text("3,376", timeout=PATIENCE)
    row = page.locator(".profile tbody tr", has_text="latitude")
    expect(row).to_contain_text("decimal")
    expect(row.locator("svg.histogram rect")).to_have_count(20)
    expect(page.locator(".first-rows tbody tr").first).to_contain_text("Thigpen")


# --- a table ------------------------------------------------------------------------------------------------


def test_a_table_is_uploaded_and_its_profile_comes_without_a_reload(page: Page):
    page.goto("/")
    page.get_by_role("link", name="Upload", exact=True).first.click()
    page.get_by_label("Choose a file").set_input_files(AIRPORTS)
    expect(page.locator("[data-chosen]")).to_have_text("airports.csv")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/jobs/*")
    stay(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Table airports.csv")
    expect_state(page, "succeeded")
    expect_profile_of_airports(page)
    assert has_stayed(page)
    # The stylesheet of the result was there before it came: a sheet scrolls by itself.
    assert page.locator(".wide-table").first.evaluate("element => getComputedStyle(element).overflowX") == "auto"

    page.goto("/uploads")
    page.get_by_role("link", name="airports.csv").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("airports.csv")
    expect_profile_of_airports(page)


def test_a_table_dropped_anywhere_on_the_page_is_uploaded(page: Page):
    page.goto("/uploads")
    dropped = page.evaluate_handle(
        """text => {
            const carried = new DataTransfer();
            carried.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
            return carried;
        }""",
        AIRPORTS.read_text(),
    )
    page.dispatch_event(".upload-list", "dragenter", {"dataTransfer": dropped})
    expect(page.locator("body")).to_have_class("dropping")
    page.dispatch_event(".upload-list", "drop", {"dataTransfer": dropped})
    page.wait_for_url("**/jobs/*")
    expect(page.get_by_role("heading", level=1)).to_have_text("Table dropped.csv")
    expect_profile_of_airports(page)


def test_bytes_and_rows_are_seen_moving(page: Page, site: Installation, tmp_path: Path):
    big = tmp_path / "big.csv"
    big.write_text("number,name,share,day\n" + "".join(f"{n},name {n % 99},{n / 7:.4f},2026-01-0{n % 9 + 1}\n"
                                                        for n in range(50_000)))  # fmt: skip
    page.goto("/uploads")
    page.get_by_label("Choose a file").set_input_files(big)

    def look_at_the_bar(route: Route) -> None:
        # The bytes are on their way: the page says so.
        assert page.locator("[data-sending]").is_visible()
        route.continue_()

    page.route("**/uploads", look_at_the_bar)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/jobs/*")
    stay(page)
    expect(page.locator(".pace")).to_be_visible()
    expect_state(page, "succeeded")
    expect(page.locator(".figures")).to_contain_text("50,000")
    assert has_stayed(page)


def test_a_file_that_is_no_table_is_refused_beside_the_field(page: Page):
    page.goto("/uploads")
    stay(page)
    picture = {"name": "cat.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + bytes(200)}
    page.get_by_label("Choose a file").set_input_files(picture)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This is a PNG picture, not a text table: upload a CSV or tab-separated text file."
    )
    # Nothing was lost: the file is still chosen, and another one may take its place.
    expect(page.locator("[data-chosen]")).to_have_text("cat.png")
    page.get_by_label("cat.png").set_input_files(AIRPORTS)
    expect(page.get_by_role("alert")).to_be_hidden()
    assert has_stayed(page)


def test_nothing_chosen_is_said_beside_the_field(page: Page):
    page.goto("/uploads")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("No file was chosen")


def test_html_in_a_name_is_text(page: Page):
    page.goto("/uploads")
    name = "<img src=x onerror=alert(1)>.csv"
    page.get_by_label("Choose a file").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": b"a,b\n1,x\n2,<script>alert(1)</script>\n"}
    )
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/jobs/*")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Table {name}")
    expect(page.locator(".first-rows")).to_contain_text("<script>alert(1)</script>")


def test_the_list_of_uploads_moves_by_itself(page: Page, site: Installation):
    status, _ = site.upload(AIRPORTS.read_bytes(), "first.csv")
    assert status == 202
    page.goto("/uploads")
    stay(page)
    expect(page.locator("tr", has_text="first.csv").locator(".state")).to_have_text("succeeded", timeout=PATIENCE)
    assert has_stayed(page)


# --- jobs -----------------------------------------------------------------------------------------------------


def test_the_list_of_jobs_is_filtered_by_state_and_task(page: Page, site: Installation):
    site.finished(site.submit("diagnostics.echo", "hello"))
    site.finished(site.submit("diagnostics.sleep", 0))
    page.goto("/jobs")
    page.get_by_role("link", name="succeeded", exact=True).first.click()
    page.wait_for_url("**state=succeeded**")
    assert set(page.locator("[data-rows] .state").all_inner_texts()) == {"succeeded"}
    page.get_by_label("Task").select_option("diagnostics.echo")
    page.wait_for_url("**task=diagnostics.echo**")
    assert "state=succeeded" in page.url
    assert set(page.locator("[data-rows] .task").all_inner_texts()) == {"diagnostics.echo"}
    page.get_by_role("link", name="Clear all").click()
    page.wait_for_url(re.compile(r"/jobs$"))


def test_a_job_is_seen_from_running_to_succeeded_without_a_reload(page: Page, site: Installation):
    page.goto(f"/jobs/{site.submit('diagnostics.sleep', 3)}")
    stay(page)
    expect_state(page, "running")
    expect_state(page, "succeeded")
    expect(page.locator(".timeline .moment").last).to_contain_text("Succeeded")
    assert has_stayed(page)


def test_a_running_job_is_cancelled_and_run_again(page: Page, site: Installation):
    job_id = site.submit("diagnostics.sleep", 60)
    page.goto(f"/jobs/{job_id}")
    expect_state(page, "running")
    page.get_by_role("button", name="Cancel").click()
    expect_state(page, "cancelled")
    page.get_by_role("button", name="Run again").click()
    expect_state(page, "running")
    page.get_by_role("button", name="Cancel").click()
    expect_state(page, "cancelled")
    assert site.get(f"/jobs/{job_id}")["state"] == "cancelled"


def test_a_queue_is_drained_and_resumed_from_its_row(page: Page, site: Installation):
    page.goto("/queues")
    page.get_by_role("button", name="Drain: mail").click()
    expect(page.get_by_role("status")).to_contain_text("The queue mail is draining")
    job_id = site.submit("diagnostics.echo", 1, queue="mail")
    page.goto(f"/jobs/{job_id}")
    expect_state(page, "waiting")
    page.get_by_role("link", name="mail", exact=True).first.click()
    page.wait_for_url("**/queues#queue-mail")
    page.get_by_role("button", name="Resume: mail").click()
    expect(page.get_by_role("status")).to_contain_text("The queue mail goes on")
    site.finished(job_id)


def test_every_page_is_in_order(page: Page):
    for place in ("/", "/uploads", "/jobs", "/schedules", "/queues", "/workers", "/account"):
        answer = page.goto(place)
        assert answer is not None
        assert answer.status == 200
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room, f"{place} is wider than the window"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_crowded_table_does_not_widen_the_page(page: Page, site: Installation, width: int):
    names = ["x" * 400, *(f"عمود رقم {n}" for n in range(20)), *(f"column {n}" for n in range(19))]
    rows = [",".join([f"{n}" + "y" * 300, *(["مرحبا"] * 20), *(str(n * k) for k in range(19))]) for n in range(30)]
    status, upload = site.upload("\n".join([",".join(names), *rows, "short"]).encode(), "z" * 390 + ".csv")
    assert status == 202
    site.finished(upload["job_id"])
    page.set_viewport_size({"width": width, "height": 900})
    for place in ("/uploads", f"/uploads/{upload['id']}", f"/jobs/{upload['job_id']}"):
        page.goto(place)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place


# --- coming and going -----------------------------------------------------------------------------------------


def test_who_signs_out_is_out(site: Installation, browser: Browser, complaints: list[str]):
    context = browser.new_context(base_url=site.url)
    page = watched(context, complaints)
    page.goto("/uploads")
    page.wait_for_url("**/login?next=/uploads")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/uploads")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login**")
    page.goto("/jobs")
    page.wait_for_url("**/login**")
    context.close()


def test_the_whole_journey_works_without_script(page_without_script: Page):
    page = page_without_script
    sign_in(page)
    page.goto("/uploads")
    page.get_by_label("Choose a file").set_input_files(
        {"name": "cat.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + bytes(200)}
    )
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("This is a PNG picture")
    page.get_by_label("Choose a file").set_input_files(AIRPORTS)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/jobs/*")
    # It refreshes itself until the job is final.
    expect_state(page, "succeeded")
    expect_profile_of_airports(page)
    page.goto("/jobs?state=succeeded")
    page.get_by_role("link", name="Table airports.csv").first.click()
    expect_profile_of_airports(page)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login**")
