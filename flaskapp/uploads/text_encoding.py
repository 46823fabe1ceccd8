"""Which characters the bytes of a file mean: byte order marks, UTF-8, or the best guess for an old code page.

UTF-8 is judged by the whole file, so that a first accent on line 900,000 still counts; the read is streamed.
It never decides that a file is binary: refusals.py does.
"""

import codecs
import re
from pathlib import Path

_BLOCK = 1 << 20
_EVIDENCE = 64 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The code pages that tables are still saved in. Left to choose among a hundred, the detector
# takes one that nobody uses (cp775) for a file with three umlauts.
_WESTERN = ["cp1252", "cp1250", "cp1254"]
_CODE_PAGES = [*_WESTERN, "cp1251", "koi8_r", "cp1253", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_NOT_LEADING = bytes(range(0x00, 0xC0))


def encoding_of_head(head: bytes) -> str | None:
    """The encoding that the first bytes alone prove, or None."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    even, odd = head[:4096:2], head[1:4096:2]
    if odd.count(0) > 0.4 * len(odd) > 4 and even.count(0) * 10 < len(even):
        return "utf-16-le"
    if even.count(0) > 0.4 * len(even) > 4 and odd.count(0) * 10 < len(odd):
        return "utf-16-be"
    return None


def is_utf8_so_far(head: bytes) -> bool:
    """Whether a file that begins with `head`, cut anywhere, can be UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def detect_encoding(path: Path) -> str:
    with path.open("rb") as file:
        known = encoding_of_head(file.read(4096))
    if known:
        return known
    characters, strays, evidence = _weigh_utf8(path)
    # Many good characters and a few stray bytes: UTF-8 with some damaged rows, which are listed as bad.
    if characters >= 10 * strays:
        return "utf-8"
    return _guess_code_page(evidence)


def _weigh_utf8(path: Path) -> tuple[int, int, bytes]:
    """How many characters beyond ASCII are good UTF-8, how many bytes are not, and lines that show it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    characters = strays = 0
    evidence = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text = decoder.decode(block)
            if block.isascii():
                continue
            bad = len(text) - len(_NOT_UTF8.sub("", text))
            strays += bad
            characters += max(0, len(block.translate(None, _NOT_LEADING)) - bad)
            if bad and len(evidence) < _EVIDENCE:
                lines = (line[:1000] for line in block.split(b"\n") if not line.isascii())
                evidence = (evidence + b"\n".join(lines))[:_EVIDENCE]
    return characters, strays, evidence


def _guess_code_page(evidence: bytes) -> str:
    from charset_normalizer import from_bytes  # slow to import, and rarely needed

    # Accents that stand alone between plain letters are Western; other scripts come in runs.
    pages = _CODE_PAGES if re.search(rb"[\x80-\xff]{2}", evidence) else _WESTERN
    best = from_bytes(evidence, cp_isolation=pages).best()
    if best is None or "cp1252" in best.could_be_from_charset:
        return "cp1252"
    return best.encoding
