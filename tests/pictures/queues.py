"""`python -m tests.pictures.queues`: Offload's page of queues and RabbitMQ's own, both of the same busy broker.

Starts a private RabbitMQ and an installation on it, and ends both.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests import services
from tests.acceptance.installation import PASSWORD, Installation, installation
from tests.helpers import ROOT, wait_until
from tests.services import RabbitMQ

PICTURES = ROOT / "docs" / "pictures"


@contextmanager
def busy_site(folder: Path) -> Iterator[tuple[Installation, RabbitMQ]]:
    """Jobs in every state of three queues: one busy, one drained, one paused."""
    with services.rabbitmq(folder / "rabbitmq") as broker:
        settings = {"BROKER_URL": broker.url, "RABBITMQ_MANAGEMENT_URL": broker.management_url, "DATABASE_URL": ""}
        with installation(folder, **settings) as site:
            submit(site, "diagnostics.echo", [1], "mail", 9)
            submit(site, "diagnostics.effect", ["picture"], "query", 6)
            wait_until(lambda: site.get("/stats")["states"]["succeeded"] >= 15, 60, "some jobs are done")
            steer(site, "mail", "pause")
            steer(site, "query", "drain")
            submit(site, "diagnostics.echo", [1], "mail", 14)
            submit(site, "diagnostics.echo", [1], "query", 6)
            submit(site, "diagnostics.sleep", [600], "uploads", 1)
            submit(site, "diagnostics.sleep", [600], "default", 40)
            wait_until(lambda: counted(site), 60, "RabbitMQ has counted them")
            yield site, broker


def submit(site: Installation, task: str, args: list[object], queue: str, times: int) -> None:
    jobs = [{"task": task, "args": args, "queue": queue} for _ in range(times)]
    status, answer = site.ask("POST", "/jobs/bulk", json.dumps({"jobs": jobs}).encode())
    assert status == 202, answer


def steer(site: Installation, queue: str, verb: str) -> None:
    status, answer = site.ask("POST", f"/queues/{queue}/{verb}", b"")
    assert status == 200, answer


def counted(site: Installation) -> bool:
    answer = site.get("/queues")
    busy = next(queue for queue in answer["items"] if queue["name"] == "default")
    at = busy["broker"] or {}
    # Its rates come with a look later than its counts.
    return bool(at.get("ready")) and answer["items"][1]["broker"]["publish_per_second"] is not None


def sign_in(page: Page, site: Installation) -> None:
    page.goto(f"{site.url}/login")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def offload(browser: Browser, site: Installation, file: Path, scheme: str = "light", width: int = 1280) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    sign_in(page, site)
    page.goto(f"{site.url}/queues")
    page.wait_for_selector(".broker-line")
    page.screenshot(path=file, full_page=width < 1000, animations="disabled")
    context.close()


def rabbits_own(browser: Browser, broker: RabbitMQ, file: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 700}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{broker.ui_url}/")
    page.fill("input[name=username]", broker.monitoring_name)
    page.fill("input[name=password]", broker.monitoring_password)
    page.click("input[type=submit]")
    page.wait_for_selector("#logout")
    page.goto(f"{broker.ui_url}/#/queues")
    page.wait_for_selector("table.list td:has-text('celery_delayed_0')")
    # Ours only: Celery makes some thirty for times to come.
    page.check("#queues-filter-regex-mode")
    page.fill("#queues-name", "^[a-z.]+$")
    page.keyboard.press("Enter")
    page.wait_for_selector("table.list td:has-text('celery_delayed_0')", state="detached")
    page.screenshot(path=file, animations="disabled")
    context.close()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="offload-pictures-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=services.find_chromium(), args=["--no-sandbox"])
        with busy_site(Path(folder)) as (site, broker):
            offload(browser, site, PICTURES / "queues.png")
            rabbits_own(browser, broker, PICTURES / "rabbitmq.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
