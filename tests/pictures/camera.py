"""One part of a page as a picture, with a little air around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from tests import services
from tests.acceptance.installation import Installation
from tests.pictures.queues import PICTURES, sign_in

PATIENCE = 60_000
_WIDTH, _HEIGHT, _AIR = 1280, 900, 20


@contextmanager
def signed_in(site: Installation) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=services.find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        sign_in(page, site)
        yield page
        browser.close()


def picture(page: Page, name: str, part: str = "main", most: int = 900, above: int = _AIR) -> None:
    """Of the first such part, at most so high."""
    page.mouse.move(0, 0)
    # A window as high as the page: nothing has to be scrolled.
    page.set_viewport_size({"width": _WIDTH, "height": page.evaluate("document.documentElement.scrollHeight")})
    box = page.locator(part).first.bounding_box()
    assert box is not None
    air = 0 if part in ("main", "body") else _AIR
    clip = {
        "x": box["x"] - air,
        "y": box["y"] - min(air, above),
        "width": box["width"] + 2 * air,
        "height": min(box["height"] + air + min(air, above), most),
    }
    page.screenshot(path=PICTURES / f"{name}.png", clip=clip, animations="disabled")  # type: ignore[arg-type]
    page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})
