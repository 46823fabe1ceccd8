"""`python -m tests.pictures.morning`: the pictures of docs/every-morning.md, of the query page and of the overview.

Starts what `make up` starts in a folder of its own, does what the page tells its reader to do, and ends it.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.acceptance.installation import installation
from tests.pictures.camera import PATIENCE, picture, signed_in


def every_morning(page: Page, url: str) -> None:
    page.goto(f"{url}/uploads")
    page.get_by_role("button", name="Try it with a sample table").click()
    page.wait_for_url("**/jobs/*")
    expect(page.locator(".profile")).to_be_visible(timeout=PATIENCE)
    picture(page, "morning-1-table", most=770)

    page.get_by_role("link", name="Ask about it").click()
    page.wait_for_url("**/query?**")
    page.locator(".query-table summary").first.click()
    table = page.locator(".query-table summary code").first.inner_text()
    page.get_by_label("Question in SQL").fill(
        f"SELECT sky, count(*) AS late\nFROM {table}\nWHERE delay_minutes > 10\nGROUP BY sky\nORDER BY late DESC"
    )
    picture(page, "morning-2-question", ".query-desk", 340)

    page.get_by_role("button", name="Run").click()
    expect(page.locator(".query-answer tbody tr")).to_have_count(4, timeout=PATIENCE)
    picture(page, "query", "body", most=1180)
    page.get_by_placeholder("Name to keep it under").fill("Late crossings by sky")
    picture(page, "morning-3-chart", ".query-run", 830)

    page.get_by_role("button", name="Save").click()
    page.get_by_label("Rhythm").fill("0 7 * * *")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("Mail the answer to").fill("ada@example.org")
    page.get_by_role("button", name="Keep these settings").click()
    expect(page.get_by_role("status")).to_contain_text("It runs by itself now")
    picture(page, "morning-4-rhythm", ".part:has(.query-settings)", above=0)

    page.get_by_role("button", name="Run and mail it now").click()
    page.wait_for_url("**/jobs/*")
    expect(page.locator(".job-head .state")).to_have_text("succeeded", timeout=PATIENCE)
    page.goto(f"{url}/mail")
    page.get_by_role("link", name="Late crossings by sky").click()
    expect(page.locator(".mail-people .state")).to_have_text("accepted", timeout=PATIENCE)
    page.get_by_role("link", name="look at it").click()
    expect(page.frame_locator(".mail-reader").get_by_alt_text("Chart of the answer")).to_be_visible()
    picture(page, "morning-5-mail")

    page.goto(url)
    expect(page.locator("[data-live-sign]")).to_have_attribute("data-live-sign", "live")
    picture(page, "overview", "body")


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="offload-pictures-") as folder,
        installation(Path(folder), DATABASE_URL="", BROKER_URL="", MAIL_URL="") as site,
        signed_in(site) as page,
    ):
        every_morning(page, site.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
