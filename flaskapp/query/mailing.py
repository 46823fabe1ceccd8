"""An answer by mail: its chart and a table to read; the whole of it as CSV and the chart as SVG are attached.

Written in the answer's own transaction: both are there, or neither.
"""

from typing import Any

from flask import render_template

from flaskapp.errors import BadArguments
from flaskapp.mail import actions
from flaskapp.query import charts, exporting, saving
from flaskapp.query.models import QueryRun, SavedQuery
from flaskapp.query.showing import cell, numeric_columns

_ROWS = 50
_COLUMNS = 12
_TEXT_ROWS = 20
#: SQLite's texts may hold one, no mail may.
_NO_NUL = "\N{REPLACEMENT CHARACTER}"
_CUT = "The answer was cut off: there is more than was kept."


def mail_answer(saved: SavedQuery, run: QueryRun, columns: list[str], rows: list[list[Any]], crossed: bool) -> str:
    """To everybody that the saved question names; answers one sentence about what became of it."""
    to = saved.mail_to.split()
    if not to:
        return ""
    subject = ("Alert: " if crossed else "") + saved.name
    file = exporting.file_name("answer", "csv", run.truncated)
    attachments = [(file, "".join(exporting.as_csv(columns, rows)).encode())]
    choice = saving.chart_of(saved, len(columns)) or charts.suggested(columns, rows)
    if choice is not None and (chart := charts.standing_alone(choice, columns, rows)):
        attachments += [("chart.png", charts.as_png(chart)), ("chart.svg", chart.encode())]
    html = render_template(
        "query/mail.html",
        saved=saved,
        run=run,
        crossed=crossed,
        has_chart=len(attachments) > 1,
        chart_note=charts.note(choice, rows) if choice else "",
        file=file,
        columns=columns[:_COLUMNS],
        more_columns=len(columns) - _COLUMNS,
        rows=[row[:_COLUMNS] for row in rows[:_ROWS]],
        more=len(rows) - _ROWS,
        cut=_CUT if run.truncated else "",
        numeric=numeric_columns(columns, rows),
        cell=cell,
    )
    try:
        text = _text(saved, columns, rows, crossed, file) + (f"\n{_CUT}\n" if run.truncated else "")
        texts = [each.replace("\0", _NO_NUL) for each in (text, html)]
        actions.write(to, subject, texts[0], html=texts[1], attachments=attachments, owner=saved.owner)
    except BadArguments as refusal:
        return f"Not mailed: {refusal}"
    return f"Mailed to {len(to)}."


def _text(saved: SavedQuery, columns: list[str], rows: list[list[Any]], crossed: bool, file: str) -> str:
    alert = f"{saved.alert_words}\n\n" if crossed else ""
    lines = [
        " | ".join(columns[:_COLUMNS]),
        *(" | ".join("" if each is None else cell(each) for each in row[:_COLUMNS]) for row in rows[:_TEXT_ROWS]),
    ]
    more = f"\n… {len(rows) - _TEXT_ROWS:,} more rows in {file}" if len(rows) > _TEXT_ROWS else ""
    more += f"\n… {len(columns) - _COLUMNS:,} more columns in {file}" if len(columns) > _COLUMNS else ""
    return f"{saved.name}\n\n{alert}" + "\n".join(lines) + more + "\n"
