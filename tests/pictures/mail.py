"""`python -m tests.pictures.mail`: a message being written, a merge's preview, and who got a message.

Against a real SMTP server that takes most, refuses some and puts some off.
"""

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.acceptance.installation import Installation, installation
from tests.mail_server import Server
from tests.pictures.camera import PATIENCE, picture, signed_in

PEOPLE = "name,email,seats\nAda,ada@example.org,2\nBob,bob@example.org,3\nGrace,grace@example.org,4\n"
NOTE = """\
The boat of **Friday, 18:00** leaves from the *north* pier.

- Bring your ticket
- Boarding closes five minutes before

[Timetable](https://ferry.example/timetable)"""
NAMES = ("no", "later", "cut-after", "ada", "bob", "cleo", "dmitri", "eve", "fatima", "grace", "hedy", "ines")


def written(page: Page, site: Installation) -> None:
    page.goto(f"{site.url}/mail/new")
    page.get_by_label("To", exact=True).fill("ada@example.org, Bob <bob@example.org>")
    page.get_by_label("Subject").fill("Friday's boat")
    page.get_by_label("Text").fill(NOTE)
    expect(page.locator("[data-paper] li")).to_have_count(2)
    picture(page, "mail-write", most=770)


def merged(page: Page, site: Installation) -> None:
    status, upload = site.upload(PEOPLE.encode(), "passengers.csv")
    assert status == 202
    site.finished(upload["job_id"])
    page.goto(f"{site.url}/mail/merge?upload={upload['id']}")
    page.get_by_label("Subject").fill("{{ seats }} seats for you, {{ name }}")
    page.get_by_label("Text").fill("Dear {{ name }},\n\nwe keep **{{ seats }} seats** for you on Friday.")
    page.get_by_label("of row").fill("3")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".mail-preview")).to_contain_text("Dear Bob")
    picture(page, "mail-merge", most=1080)


def sent(page: Page, site: Installation) -> None:
    body = {"to": [f"{name}@example.org" for name in NAMES], "subject": "Friday's boat", "text": NOTE}
    status, message = site.ask("POST", "/messages", json.dumps(body).encode())
    assert status == 202, message
    page.goto(f"{site.url}/mail/{message['id']}")
    for number, state in ((len(NAMES) - 3, "accepted"), (1, "rejected"), (1, "deferred"), (1, "unknown")):
        expect(page.get_by_role("link", name=f"{number} {state}")).to_be_visible(timeout=PATIENCE)
    picture(page, "mail-sent", most=900)


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="offload-pictures-") as folder,
        Server() as server,
        installation(Path(folder), DATABASE_URL="", BROKER_URL="", MAIL_URL=server.url) as site,
        signed_in(site) as page,
    ):
        written(page, site)
        merged(page, site)
        sent(page, site)
    return 0


if __name__ == "__main__":
    sys.exit(main())
