"""How a text file is laid out: encoding, delimiter, quote and header, from its first 256 kB.

`check` is quick enough for the web request, also on hostile files; `sniff` reads on to be certain of the
encoding. Neither imports polars, and neither looks at a row past the first 256 kB.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from .header import columns_named, looks_like_data
from .refusals import UnreadableTable, refuse_known_formats, refuse_what_is_not_text
from .text_encoding import detect_encoding, encoding_of_head, is_utf8_so_far

HEAD = 256 * 1024
#: MariaDB's and PostgreSQL's tables end between 1,000 and 1,600 columns, SQLite's at 2,000.
MAX_COLUMNS = 1_000
_SAMPLE_RECORDS = 200
_MOST_RECORDS = 2_000  # blank ones too
_MOST_HEADER_LINES = 20
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n])", re.MULTILINE)


@dataclass(frozen=True)
class Dialect:
    encoding: str
    delimiter: str
    quote: str
    #: Names fit for a database: mended, never blank, different also without regard to case.
    header: tuple[str, ...]
    #: Lines of the file up to and including the header row.
    header_lines: int


def check(path: Path) -> None:
    """Raise UnreadableTable if the beginning of the file already shows that it is no table."""
    head, is_whole = _read_head(path)
    known = encoding_of_head(head)
    # In every code page the delimiters and digits are ASCII, so Latin-1 shows the layout of all of them.
    _lay_out(head, is_whole, known or ("utf-8" if is_utf8_so_far(head) else "latin-1"))


def sniff(path: Path) -> Dialect:
    head, is_whole = _read_head(path)
    _lay_out(head, is_whole, encoding_of_head(head) or "latin-1")  # refuse before reading a whole binary file
    return _lay_out(head, is_whole, detect_encoding(path))


def _read_head(path: Path) -> tuple[bytes, bool]:
    with path.open("rb") as file:
        head = file.read(HEAD + 1)
    refuse_known_formats(head)
    return head[:HEAD], len(head) <= HEAD


def _lay_out(head: bytes, is_whole: bool, encoding: str) -> Dialect:
    text = head.decode(encoding, errors="ignore")
    refuse_what_is_not_text(text)
    if not is_whole:
        text = _whole_lines(text)
    quote = "'" if '"' not in text and len(_SINGLE_QUOTED.findall(text[:20_000])) > 3 else '"'
    delimiter, skipped = _announced_delimiter(text)
    body = text.split("\n", 1)[1] if skipped and "\n" in text else text
    delimiter = delimiter or _likeliest_delimiter(body, quote)
    records = list(_records(body, delimiter, quote))
    if not records:
        raise UnreadableTable("The file has no header row: write the names of the columns into its first line.")
    header_lines, header = records[0]
    if len(header) > MAX_COLUMNS:
        raise UnreadableTable(f"The table has {len(header):,} columns, more than {MAX_COLUMNS:,}: split it by columns.")
    rows = [row for _, row in records[1:]]
    if _has_open_quote(body, delimiter, quote, header_lines):
        raise UnreadableTable("The header row opens a quote that never ends: close it or remove the quote mark.")
    if is_whole or rows:  # else the second row is longer than what was read: that is for the survey to judge
        _refuse_bad_shape(header, rows)
    if looks_like_data(header, rows):
        raise UnreadableTable(
            "The first line holds values, not names: put a header row with the names of the columns above it."
        )
    return Dialect(encoding, delimiter, quote, columns_named(header), header_lines + skipped)


def _whole_lines(text: str) -> str:
    end = max(text.rfind("\n"), text.rfind("\r"))
    if end < 0:
        raise UnreadableTable(f"The first line is longer than {HEAD:,} bytes: put a line break after each row.")
    return text[: end + 1]


def _announced_delimiter(text: str) -> tuple[str, int]:
    """The delimiter that a first line `sep=;` names, as Excel writes it, and the lines that this takes."""
    match = re.match(r"\"?sep=([,;\t|])\"?\r?\n", text, re.IGNORECASE)
    return (match[1], 1) if match else ("", 0)


def _records(text: str, delimiter: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """The first records that are not blank, each with the number of lines up to its end."""
    csv.field_size_limit(max(csv.field_size_limit(), HEAD + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    found = 0
    for record in islice(reader, _MOST_RECORDS):
        if any(cell.strip() for cell in record):
            yield reader.line_num, record
            found += 1
            if found == _SAMPLE_RECORDS:
                return


def _likeliest_delimiter(text: str, quote: str) -> str:
    """The delimiter that cuts most records, the header among them, into the same number of cells."""

    def weight(delimiter: str) -> tuple[float, int]:
        widths = [len(record) for _, record in _records(text, delimiter, quote)]
        if not widths or max(widths) < 2:
            return 0.0, 0
        width, times = Counter(widths).most_common(1)[0]
        agreement = times / len(widths) if width > 1 else 0.0
        return (agreement if widths[0] == width else agreement / 2), width

    return max(_DELIMITERS, key=weight)


def _has_open_quote(text: str, delimiter: str, quote: str, header_lines: int) -> bool:
    """Whether the header row is a quote that runs on through the lines below."""
    if header_lines < 2:
        return False
    if header_lines > _MOST_HEADER_LINES:
        return True
    lines = list(io.StringIO(text, newline=""))[:header_lines]
    try:
        list(csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _refuse_bad_shape(header: list[str], rows: list[list[str]]) -> None:
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else len(header)
    if len(header) == 1 and width > 1:
        raise UnreadableTable(
            f"The first line has 1 cell, those below have {width:,}: remove what stands above the header row."
        )
    if len(header) == 1:
        raise UnreadableTable(
            "Only one column was found: separate the columns by comma, semicolon, tab or | and upload again."
        )
    if not rows:
        raise UnreadableTable("The table has a header row but no data: add at least one row below it.")
    if all(len(row) != len(header) for row in rows):
        raise UnreadableTable(
            f"The header row has {len(header):,} cells, the rows below {width:,}: give each column one name."
        )
