"""An answer as a picture. pygal draws it; its own styles and scripts are left out, query.css colours it.

So a chart in a page obeys the page's policy and theme. One that travels by mail carries the colours of paper, and
is drawn as PNG too: mail programs show no SVG.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from flaskapp.query.showing import as_number, numeric_columns
from flaskapp.uploads.header import ROW_NUMBER

KINDS = {"bar": "Bars", "line": "Line", "scatter": "Points", "histogram": "Distribution"}
_MOST = {"bar": 60, "line": 1500, "scatter": 1500}
_BINS = 20
_LABELS = 12
_WIDTH, _HEIGHT = 680, 340
#: What pygal leaves room for: as large as query.css writes on a phone.
_LETTERS = Style(label_font_size=16, major_label_font_size=16, title_font_size=16)
#: As query.css has it, in light colours. The first family is ours: it comes with as_png.
_ON_PAPER = (
    "svg{font-family:'Source Sans Pro','DejaVu Sans',Arial,Helvetica,sans-serif;font-size:13px}"
    ".background{fill:none}.axis text,.title{fill:#64727f;font-size:13px}.title{text-anchor:middle}"
    ".axis.x text{text-anchor:middle}.axis.x text[transform]{text-anchor:start}.axis.y text{text-anchor:end}"
    ".axis .line,.axis path{fill:none;stroke:#e0e6ed}.axis.x .guides>path.guide{stroke:none}"
    ".series{fill:#2b94ce;stroke:#2b94ce}.series rect,.series .dot{stroke:none}"
    ".series .line{fill:none;stroke-width:2}.tooltip,.text-overlay,.legends{display:none}"
)
_LONGEST_LABEL = 200
#: What no XML may hold.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Choice:
    kind: str
    #: Columns, counted from 0.
    x: int
    y: int


def suggested(columns: list[str], rows: list[list[Any]]) -> Choice | None:
    """What most people would draw: the first numbers against the first names or moments; None if nothing can be."""
    # Where a line stood in its file is the least that anybody would draw.
    numbers = sorted(numeric_columns(columns, rows), key=lambda i: (columns[i] == ROW_NUMBER, i))
    if not numbers or len(rows) < 2:
        return None
    others = [i for i in range(len(columns)) if i not in numbers]
    if not others:
        return (
            Choice("scatter", numbers[0], numbers[1])
            if len(numbers) > 1
            else Choice("histogram", numbers[0], numbers[0])
        )
    names = [str(row[others[0]]) for row in rows]
    is_time = all(name[:4].isdigit() and name[4:5] == "-" for name in names)
    if len(rows) > _MOST["bar"] and not is_time and len(numbers) > 1:
        return Choice("scatter", numbers[0], numbers[1])
    return Choice("line" if is_time or len(rows) > _MOST["bar"] else "bar", others[0], numbers[0])


def read_choice(fields: Mapping[str, str], columns: int) -> Choice | None:
    """What the form says, columns counted from 1; None if it says nothing that can be drawn."""
    kind, texts = fields.get("chart", ""), (fields.get("x", ""), fields.get("y", ""))
    places = [int(text) - 1 if text.isascii() and text.isdigit() and len(text) < 5 else -1 for text in texts]
    if kind not in KINDS or not all(0 <= place < columns for place in places):
        return None
    return Choice(kind, *places)


def drawn(choice: Choice, columns: list[str], rows: list[list[Any]]) -> str:
    """SVG for the page, without a style or a script; empty if there is nothing to draw."""
    root = _tree(_chart(choice, columns, rows, css=[], js=[]))
    if root is None:
        return ""
    for parent in root.iter():
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] in ("defs", "script", "style"):
                parent.remove(child)
            child.attrib.pop("style", None)
    root.attrib.pop("style", None)
    root.set("role", "img")
    root.set("aria-label", f"{KINDS[choice.kind]}: {_label(columns[choice.y])} by {_label(columns[choice.x])}")
    text: str = ElementTree.tostring(root, encoding="unicode")
    return text


def standing_alone(choice: Choice, columns: list[str], rows: list[list[Any]]) -> str:
    """The same SVG with the colours of paper, for a mail or a file."""
    svg = drawn(choice, columns, rows)
    return svg.replace(">", f"><style>{_ON_PAPER}</style>", 1) if svg else ""


def note(choice: Choice, rows: list[list[Any]]) -> str:
    """What the picture leaves out, as a sentence; empty if it shows every row that can be drawn."""
    most, drawable = _MOST.get(choice.kind), len(_drawable(choice, rows))
    return "" if most is None or drawable <= most else f"Drawn are the first {most:,} of {drawable:,} rows."


def as_png(svg: str) -> bytes:
    """Twice as large as it is shown, for sharp screens. It has letters also on a machine without a font."""
    import resvg_py  # only who mails a chart pays for it

    font = str(files("font_source_sans_pro") / "files" / "SourceSansPro-Regular.ttf")
    wide, high = 2 * _WIDTH, 2 * _HEIGHT
    return bytes(resvg_py.svg_to_bytes(svg, background="#ffffff", width=wide, height=high, font_files=[font]))


def _tree(chart: Any) -> Any:
    try:
        return None if chart is None else chart.render_tree()
    except (ArithmeticError, ValueError):
        # Its scales trip over spans beyond a float's, and over points that a float cannot tell apart.
        return None


def _label(value: Any) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", "–" if value is None else str(value)[:_LONGEST_LABEL])


def _figure(number: float) -> str:
    """600,000,000 rather than 600000000.0, and what is too long to read in the short way."""
    return f"{number:,.10g}" if abs(number) < 1e12 else f"{number:.4g}"


def _drawable(choice: Choice, rows: list[list[Any]]) -> list[list[Any]]:
    """The rows that have a number wherever the picture needs one."""
    needed = {choice.x, choice.y} if choice.kind == "scatter" else {choice.y}
    return [row for row in rows if all(as_number(row[place]) is not None for place in needed)]


def _chart(choice: Choice, columns: list[str], rows: list[list[Any]], **look: Any) -> Any:
    columns = [_label(name) for name in columns]
    look |= {
        "width": _WIDTH,
        "height": _HEIGHT,
        "explicit_size": False,
        "show_legend": False,
        "pretty_print": False,
        "disable_xml_declaration": True,
        "margin": 12,
        "dots_size": 3,
        "truncate_label": 24,
        "style": _LETTERS,
        "value_formatter": _figure,
        "x_title": columns[choice.x][:60],
        "y_title": None if choice.kind == "histogram" else columns[choice.y][:60],
    }
    return {"bar": _bars, "line": _line, "scatter": _points, "histogram": _distribution}[choice.kind](
        choice, columns, rows, look
    )


def _bars(choice: Choice, columns: list[str], rows: list[list[Any]], look: dict[str, Any]) -> Any:
    return _named(pygal.Bar, choice, columns, rows, look)


def _line(choice: Choice, columns: list[str], rows: list[list[Any]], look: dict[str, Any]) -> Any:
    return _named(pygal.Line, choice, columns, rows, look | {"show_dots": len(rows) <= 60})


def _named(kind: Any, choice: Choice, columns: list[str], rows: list[list[Any]], look: dict[str, Any]) -> Any:
    kept = _drawable(choice, rows)[: _MOST[choice.kind]]
    if not kept:
        return None
    labels = [_label(row[choice.x]) for row in kept]
    # Of many labels some are written. pygal could choose them, but knows them by their text, and texts repeat.
    room = _LABELS if max(map(len, labels)) > 4 else 2 * _LABELS
    step = max(1, -(-len(kept) // room))
    if max(map(len, labels)) > 8:
        # Slanted, the last one reaches out.
        look |= {"x_label_rotation": 20, "margin_right": 48}
    chart = kind(**look)
    chart.x_labels = [label if place % step == 0 else "" for place, label in enumerate(labels)]
    chart.add(columns[choice.y], [as_number(row[choice.y]) for row in kept])
    return chart


def _points(choice: Choice, columns: list[str], rows: list[list[Any]], look: dict[str, Any]) -> Any:
    kept = _drawable(choice, rows)[: _MOST["scatter"]]
    if not kept:
        return None
    chart = pygal.XY(**look, stroke=False)
    chart.add(columns[choice.y], [(as_number(row[choice.x]), as_number(row[choice.y])) for row in kept])
    return chart


def _distribution(choice: Choice, columns: list[str], rows: list[list[Any]], look: dict[str, Any]) -> Any:
    values = [number for row in rows if (number := as_number(row[choice.y])) is not None]
    least, most = min(values, default=0.0), max(values, default=0.0)
    if not values or not math.isfinite(most - least):
        return None
    width = (most - least) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - least) / width), _BINS - 1)] += 1
    chart = pygal.Histogram(**look | {"x_title": columns[choice.y][:60]})
    chart.add("rows", [(count, least + i * width, least + (i + 1) * width) for i, count in enumerate(counts)])
    return chart
