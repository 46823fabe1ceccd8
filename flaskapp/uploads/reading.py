"""The rows of a delimited text file, in chunks: good rows as cells, bad rows with their line and a reason.

Memory stays constant whatever the file holds: lines, records and chunks are bounded, and a quote that never
ends costs one bad row. Nothing here knows types, and every good row has as many cells as the header.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from .sniffing import Dialect

RECORD_LIMIT = 500_000
RAW_LIMIT = 1_000
_BLOCK = 1 << 18
_CHUNK_ROWS = 20_000
_CHUNK_CELLS = 400_000
_CHUNK_CHARACTERS = 2_000_000
_SUSPECT = re.compile("[\x00\ufffd\udc80-\udcff]")


@dataclass(frozen=True)
class BadRow:
    #: The line of the file on which the row begins.
    number: int
    reason: str
    #: The row as it stands in the file, clipped.
    raw: str


@dataclass
class Chunk:
    #: For each good row, the line of the file on which it begins.
    numbers: list[int] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def rows(path: Path, dialect: Dialect) -> Iterator[Chunk]:
    """Read the rows below the header; rows without any content are passed over."""
    # A code page decodes every byte or marks it; UTF-16 and UTF-32 cannot, so there a mark stands for it.
    errors = "replace" if dialect.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    with path.open(encoding=dialect.encoding, errors=errors, newline="") as file:
        yield from _chunks(_Lines(file), dialect)


def _chunks(lines: "_Lines", dialect: Dialect) -> Iterator[Chunk]:
    csv.field_size_limit(max(csv.field_size_limit(), 4 * RECORD_LIMIT))
    width = len(dialect.header)
    most_rows = max(100, min(_CHUNK_ROWS, _CHUNK_CELLS // width))
    lines.skip(dialect.header_lines)
    chunk = Chunk()
    size = lines.characters
    while not lines.at_end:
        if lines.are_between_blocks and lines.read_block() and (clean := _clean_rows(lines, dialect)):
            chunk.numbers.extend(range(lines.number, lines.number + len(clean)))
            chunk.rows.extend(clean)
            lines.drop_block()
        for number, record in _records(lines, dialect):
            if isinstance(record, BadRow):
                chunk.bad.append(record)
            else:
                chunk.numbers.append(number)
                chunk.rows.append(record)
            if len(chunk.bad) >= most_rows or lines.characters - size > 2 * _CHUNK_CHARACTERS:
                yield chunk
                chunk, size = Chunk(), lines.characters
        if len(chunk.rows) >= most_rows or lines.characters - size > _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = Chunk(), lines.characters
    if chunk.rows or chunk.bad:
        yield chunk


def _clean_rows(lines: "_Lines", dialect: Dialect) -> list[list[str]]:
    """The rows of a whole block at the speed of C, if each line of it is one good row; else none."""
    block = lines.block
    if not block or lines.is_suspect_block:
        return []
    records = list(csv.reader(block, delimiter=dialect.delimiter, quotechar=dialect.quote))
    one_each = len(records) == len(block) and set(map(len, records)) == {len(dialect.header)}
    if not one_each or not all(map(any, records)):
        return []
    try:
        # The last line may open a quote that ends in the next block.
        list(csv.reader(block[-1:], delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True))
    except csv.Error:
        return []
    return records


def _records(lines: "_Lines", dialect: Dialect) -> Iterator[tuple[int, list[str] | BadRow]]:
    """The rows one by one, up to the next place where a block and a record end together."""
    width = len(dialect.header)
    while not (lines.at_end or lines.are_between_blocks):
        # A new reader whenever lines were handed back: the old one has swallowed them.
        for record in csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote):
            if len(record) == width and len(lines.record) == 1 and not lines.is_suspect:
                reason, taken = "", 1
            else:
                reason, taken = _fault(record, lines, dialect)
            if reason:
                yield lines.number, BadRow(lines.number, reason, _raw(lines.record[:taken]))
            elif any(record):
                yield lines.number, record
            if taken < len(lines.record):
                lines.hand_back(taken)
                break
            lines.next_record()
            if lines.are_between_blocks:
                break


def _fault(record: list[str], lines: "_Lines", dialect: Dialect) -> tuple[str, int]:
    """Why the record is bad (empty: it is good), and how many of its lines are used up by that."""
    width = len(dialect.header)
    several = len(lines.record) > 1
    if lines.is_too_long:
        if several:
            return f"the quote that opens on line {lines.number:,} is not closed", 1
        return f"the row is longer than {RECORD_LIMIT:,} characters", 1
    if several and _swallowed_rows(record, lines, dialect):
        return f"the quote that opens on line {lines.number:,} is not closed", 1
    if lines.is_suspect:
        text = "".join(lines.record)
        if "\0" in text:
            return "it contains a NUL byte", len(lines.record)
        if dialect.encoding.startswith(("utf-16", "utf-32")) or _has_stray_byte(text):
            name = dialect.encoding.removesuffix("-sig").upper()
            return f"it contains bytes that are not {name} text", len(lines.record)
    if len(record) != width and record:
        cells = "1 cell" if len(record) == 1 else f"{len(record):,} cells"
        return f"it has {cells}, the header has {width:,}", len(lines.record)
    return "", len(lines.record)


def _has_stray_byte(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _swallowed_rows(record: list[str], lines: "_Lines", dialect: Dialect) -> bool:
    """Whether a record of several lines is really an open quote that ran into the rows after it."""

    def parse(text: list[str], strict: bool) -> list[list[str]]:
        return list(csv.reader(text, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=strict))

    width = len(dialect.header)
    is_odd = len(record) != width
    try:
        parse(lines.record, strict=True)
    except csv.Error as error:
        if "unexpected end" in str(error):
            return True
        is_odd = True  # a quote ends in the middle of a cell: it may well be the first of another
    return is_odd and [len(row) for row in parse(lines.record[1:2], strict=False)] == [width]


def _raw(lines: list[str]) -> str:
    text = "".join(line[:RAW_LIMIT] for line in lines[:20])
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0").rstrip("\r\n")
    return clean if len(clean) <= RAW_LIMIT else clean[: RAW_LIMIT - 1] + "…"


class _Lines:
    """Feeds a csv.reader from blocks of the file, remembers the record in hand, takes lines back.

    A record that grows past the limit is ended as if the file ended there; `is_too_long` says so.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: list[str] = []  # last line first
        self._length = 0
        self.block: list[str] = []
        self.is_suspect_block = False
        self.characters = 0
        self.at_end = False
        #: The line of the file on which the record in hand begins.
        self.number = 1
        self.record: list[str] = []
        self.is_suspect = False
        self.is_too_long = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.is_too_long or not (self._waiting or self.read_block()):
            raise StopIteration
        line = self._waiting.pop()
        self.record.append(line)
        self._length += len(line)
        if self._length > RECORD_LIMIT:
            self.is_too_long = self.is_suspect = True
        elif self.is_suspect_block and _SUSPECT.search(line):
            self.is_suspect = True
        return line

    @property
    def are_between_blocks(self) -> bool:
        return not self._waiting and not self.record

    def skip(self, lines: int) -> None:
        for _ in range(lines):
            next(self, None)
            self.next_record()

    def next_record(self) -> None:
        self.number += len(self.record)
        self.record.clear()
        self._length = 0
        self.is_suspect = self.is_too_long = False

    def hand_back(self, taken: int) -> None:
        """Keep the first lines of the record in hand as used up, and give the others out once more."""
        self._waiting.extend(reversed(self.record[taken:]))
        self.is_suspect_block = True  # they may come from a block before this one
        self.at_end = False
        del self.record[taken:]
        self.next_record()

    def drop_block(self) -> None:
        """Go on after the block, whose lines were all used without being asked for."""
        self.number += len(self._waiting)
        self._waiting = []

    def read_block(self) -> bool:
        """Take whole lines from the file, about 256 kB of them; a line past the limit comes clipped."""
        text = self._file.read(_BLOCK)
        if not text:
            self.at_end = True
            return False
        rest = self._file.readline(RECORD_LIMIT)
        if len(rest) == RECORD_LIMIT:
            part = rest
            while part and not part.endswith(("\n", "\r")):
                part = self._file.readline(RECORD_LIMIT)
        text += rest
        self.characters += len(text)
        self.is_suspect_block = "\0" in text or not (text.isascii() or _SUSPECT.search(text) is None)
        self.block = list(io.StringIO(text, newline=""))
        self._waiting = self.block[::-1]
        return True
