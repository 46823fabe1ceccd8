"""Why a file is no table: one sentence for the person who sent it, with the cure in it.

Judges by content alone, never by name or declared type, and from the first bytes only.
It does not look at rows: one bad row never refuses a file.
"""

import re


class UnreadableTable(Exception):
    """Why a file cannot be read as a table; the message is meant for the page."""


class TooWide(UnreadableTable):
    """The database has no room for a row this wide."""


_MAGIC = (
    (b"\x89PNG\r\n", "a PNG picture", "upload a CSV or tab-separated text file"),
    (b"\xff\xd8\xff", "a JPEG picture", "upload a CSV or tab-separated text file"),
    (b"GIF8", "a GIF picture", "upload a CSV or tab-separated text file"),
    (b"%PDF-", "a PDF document", "upload the table behind it as a CSV file"),
    (
        b"PK\x03\x04",
        "an Excel workbook or a ZIP archive",
        "save the sheet as CSV, or unpack the archive first",
    ),
    (b"PK\x05\x06", "an empty ZIP archive", "upload a CSV file"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "save the sheet as CSV and upload that"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and upload the file inside"),
    (b"BZh", "a bzip2 archive", "unpack it and upload the file inside"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it and upload the file inside"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it and upload the file inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and upload the file inside"),
    (b"Rar!\x1a", "a RAR archive", "unpack it and upload the file inside"),
    (b"PAR1", "a Parquet file", "export it as CSV"),
    (b"SQLite format 3\x00", "a SQLite database", "export the table as CSV"),
    (b"\x7fELF", "a program", "upload a CSV file"),
)
_MARKUP = re.compile(r"\s*(<!doctype|<html|<\?xml|<svg)", re.IGNORECASE)
_JSON = re.compile(r"""\s*(\{\s*"[^"\n]*"\s*:|\[\s*[{\[])""")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


def refuse_known_formats(head: bytes) -> None:
    if not head:
        raise UnreadableTable("The file is empty: choose a file with a header row and at least one row of data.")
    for magic, name, cure in _MAGIC:
        if head.startswith(magic):
            raise UnreadableTable(f"This is {name}, not a text table: {cure}.")


def refuse_what_is_not_text(text: str) -> None:
    # A stray NUL or bell is one bad row; a file full of them was never text.
    if len(_CONTROL.findall(text)) > 4 + len(text) // 200:
        raise UnreadableTable("This is a binary file, not text: save the table as CSV (UTF-8) and upload that file.")
    if _MARKUP.match(text):
        raise UnreadableTable("This is a web page or an XML file, not a table: export the table as CSV.")
    if _JSON.match(text):
        raise UnreadableTable("This is JSON, not a table with a header row: convert it to CSV.")
    if not text.strip():
        raise UnreadableTable("The file holds nothing but blank lines: choose a file with a header row and data.")
