"""Upload a table, ask it, draw the answer, have it mailed every morning: as a person does it, on both stacks.

A real browser, and the real web, worker and beat. Tomorrow morning is not awaited: the page has a button for now.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import STACKS
from tests.acceptance.installation import Installation, installation
from tests.acceptance.test_browser_journey import (  # noqa: F401 -- fixtures
    PATIENCE,
    browser,
    complaints,
    page,
    signed_in,
)

SALES = "day,city,amount\n" + "".join(
    f"2026-11-{day:02},{city},{amount * day}\n"
    for day in range(1, 11)
    for city, amount in (("Lisbon", 3), ("Oslo", 2), ("Vienna", 5))
)
#: 55 days' worth of each: what the mail must say.
TOTALS = {"Vienna": 275, "Lisbon": 165, "Oslo": 110}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module", params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = {"DATABASE_URL": "", "BROKER_URL": "", "MAIL_URL": ""}
    if request.param != "SQLite and folder":
        name = f"morning-{uuid4().hex}"
        rabbitmq = request.getfixturevalue("rabbitmq")
        settings["DATABASE_URL"] = request.getfixturevalue("postgresql").create_database(name)
        settings["BROKER_URL"] = rabbitmq.create_vhost(name)
    folder = tmp_path_factory.mktemp("site")
    with installation(folder, **settings) as running:
        yield running
    if request.param != "SQLite and folder":
        rabbitmq.delete_vhost(name)


def test_a_table_is_uploaded_asked_charted_and_mailed_every_morning(page: Page, site: Installation) -> None:
    # Upload.
    page.goto("/uploads")
    page.set_input_files("#file", {"name": "sales.csv", "mimeType": "text/csv", "buffer": SALES.encode()})
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".figures").first).to_contain_text("30", timeout=PATIENCE)

    # Ask.
    page.get_by_role("link", name="Ask about it").click()
    page.wait_for_url("**/query?**")
    table = page.locator(".query-table summary code").first.inner_text()
    assert table.startswith("sales_")
    question = f"SELECT city, sum(amount) AS total FROM {table} GROUP BY city ORDER BY total DESC"
    page.get_by_label("Question in SQL").fill(question)
    page.get_by_role("button", name="Run").click()
    answer = page.locator(".query-answer tbody tr")
    expect(answer).to_have_text([f"{city}{total}" for city, total in TOTALS.items()], timeout=PATIENCE)

    # Chart.
    expect(page.locator(".query-chart svg .bar")).to_have_count(3)

    # Every morning.
    page.get_by_placeholder("Name to keep it under").fill("Sales by city")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Rhythm").fill("0 7 * * *")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("Mail the answer to").fill("ada@example.org")
    asked_at = datetime.now(UTC)
    page.get_by_role("button", name="Keep these settings").click()
    expect(page.get_by_role("status")).to_contain_text("It runs by itself now")
    due = page.locator(".part-help time")
    assert datetime.fromisoformat(str(due.get_attribute("datetime"))) == next_seven_o_clock(asked_at)
    expect(page.locator(".part-help").first).to_contain_text("at 07:00 in Europe/Berlin")

    # Now.
    page.get_by_role("button", name="Run and mail it now").click()
    page.wait_for_url("**/jobs/*")
    expect(page.locator(".job-head .state")).to_have_text("succeeded", timeout=PATIENCE)
    page.goto("/mail")
    page.get_by_role("link", name="Sales by city").click()
    expect(page.locator(".mail-people tbody tr")).to_have_count(1)
    expect(page.locator(".mail-people tbody tr")).to_contain_text("ada@example.org")
    expect(page.locator(".mail-people .state")).to_have_text("accepted", timeout=PATIENCE)
    expect(page.locator(".mail-people")).to_contain_text("250 written to")

    # The mail, as its reader sees it.
    page.get_by_role("link", name="look at it").click()
    reader = page.frame_locator(".mail-reader")
    for city, total in TOTALS.items():
        expect(reader.locator("tr", has_text=city)).to_contain_text(str(total))
    picture = reader.get_by_alt_text("Chart of the answer")
    expect(picture).to_have_js_property("complete", True)
    expect(picture).to_have_js_property("naturalWidth", 1360)
    # Running it by hand left its rhythm alone.
    assert_one_mail_with_table_and_chart(Path(site.environment["INSTANCE_PATH"]))


def next_seven_o_clock(after: datetime) -> datetime:
    here = after.astimezone(BERLIN)
    seven = here.replace(hour=7, minute=0, second=0, microsecond=0)
    return seven if seven > here else (seven + timedelta(days=1))


def assert_one_mail_with_table_and_chart(instance: Path) -> None:
    """What travels, by the standard library's eyes."""
    (file,) = instance.glob("mail/**/*.eml")
    mail = message_from_bytes(file.read_bytes(), EmailMessage, policy=default)
    assert (mail["To"], mail["Subject"]) == ("ada@example.org", "Sales by city")
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    for city, total in TOTALS.items():
        assert f"{city} | {total}" in text.get_content()
        assert re.search(rf">{city}</td><td[^>]*>{total}</td>", html.get_content())
    (chart,) = (part for part in mail.walk() if part.get_content_type() == "image/png")
    assert chart["Content-ID"] == "<chart.png>"
    assert 'src="cid:chart.png"' in html.get_content()
    assert chart.get_content().startswith(b"\x89PNG")
    attached = {part.get_filename(): part.get_content() for part in mail.iter_attachments()}
    assert set(attached) == {"answer.csv", "chart.svg"}
    assert "Vienna,275" in str(attached["answer.csv"])
