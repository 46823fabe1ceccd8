"""What people type, as a mail: the Markdown itself is the plain text, its rendering the HTML.

Tags that somebody typed stay text, and links lead to web and mail addresses only: what comes out is safe on our own
pages too.
"""

import re

from markdown_it import MarkdownIt

#: Any other scheme may start a program on the reader's machine; an address without one means nothing in a mail.
_LINK = re.compile(r"https?://|mailto:|cid:", re.IGNORECASE)

#: Beyond what a person reads on a page, the server need not render.
LONGEST_SHOWN = 100_000

_PARSER = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
#: Deeper lists and quotes are no text for people, and slow.
_PARSER.options["maxNesting"] = 20
_PARSER.validateLink = lambda url: _LINK.match(url) is not None  # type: ignore[method-assign]
_FRAME = (
    '<!doctype html><html><head><meta charset="utf-8"></head>'
    '<body style="font-family:sans-serif;line-height:1.5;max-width:40em">{}</body></html>'
)


def rendered(text: str) -> str:
    return str(_PARSER.render(text))


def as_html_mail(text: str) -> str:
    return _FRAME.format(rendered(text))
