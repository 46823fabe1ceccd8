"""The texts of a mail merge, filled for one row."""

from dataclasses import dataclass
from typing import Any

from flaskapp.errors import BadArguments
from flaskapp.mail import composing, markdown, people
from flaskapp.mail.filling import Filling
from flaskapp.uploads.models import Upload


class Merge:
    """The texts of a merge, filled row by row; raises BadArguments."""

    def __init__(self, subject: str, text: str) -> None:
        self._subject, self._text = Filling(subject, "The subject"), Filling(text, "The text")
        self.names = self._subject.names | self._text.names

    def check_names(self, upload: Upload) -> None:
        for part in (self._subject, self._text):
            part.check_names(people.columns_of(upload))

    def filled(self, variables: dict[str, Any]) -> tuple[str, str]:
        texts = self._subject.filled(variables), self._text.filled(variables)
        composing.check_texts(*texts)
        return texts

    def letter_texts(self, variables: dict[str, Any]) -> tuple[str, str, str | None]:
        subject, text = self.filled(variables)
        return subject, text, markdown.as_html_mail(text)


@dataclass(frozen=True)
class Preview:
    """The mail of one row, as its reader will see it."""

    row: int
    to: str
    subject: str
    text: str
    html: str


def preview(upload: Upload, column: str, subject: str, text: str, asked: int) -> Preview:
    """Of the asked row or the next one after it; raises BadArguments."""
    merge = Merge(subject, text)
    merge.check_names(upload)
    found = people.row_of(upload, asked, merge.names | {column})
    if found is None:
        raise BadArguments(f"There is no row {asked} or later one.")
    number, variables = found
    filled_subject, filled_text = merge.filled(variables)
    to = str(variables.get(column, ""))
    return Preview(number, to, filled_subject, filled_text, markdown.rendered(filled_text))
