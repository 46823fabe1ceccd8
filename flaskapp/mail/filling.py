"""`{{ column }}` in a text, filled from one row: Jinja's sandbox, and of its language only what cannot loop or call.

What a template costs is bounded by its length, its parts and their depth, and by how many characters its filters go
through; what comes out is counted while it is made. A name without a value is an error, never an empty place.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import FilterArgumentError
from jinja2.filters import do_round, do_trim
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from flaskapp.errors import BadArguments

LONGEST_TEMPLATE = 100_000
LONGEST_TEXT = 500_000
#: Jinja compiles a chain of filters in the cube of its length.
_MOST_PARTS, _DEEPEST = 5_000, 20
#: Filters × characters of the longest value: what one row may cost.
_MOST_WORK = 200_000
#: Filters that do not look at what they are given.
_FREE = {"default", "d"}
#: More than a float has.
_MOST_PLACES = 20
_MOST_TRIMMED = 100
_FILTERS = {"upper", "lower", "title", "capitalize", "trim", "default", "d", "round", "int", "abs"}
_NODES = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Filter, nodes.If),
    *(nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Test, nodes.Keyword),
)
_TESTS = {"defined", "undefined", "none", "string", "number", "even", "odd"}
# Not optimized: that would compute what has no variables in it while the template is only read.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, optimized=False
)
_ENVIRONMENT.globals.clear()


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > _MOST_PLACES:
        # Python and Jinja compute 10 ** precision, to either side of the point.
        raise FilterArgumentError(f"round takes at most {_MOST_PLACES} places")
    return do_round(value, precision, method)


def _trim(value: str, chars: str | None = None) -> str:
    if chars is not None and len(chars) > _MOST_TRIMMED:
        # Each character of the value is looked for in all of these.
        raise FilterArgumentError(f"trim takes at most {_MOST_TRIMMED} characters")
    return do_trim(value, chars)


def _is_even(value: object) -> bool:
    return _remainder(value) == 0


def _is_odd(value: object) -> bool:
    return _remainder(value) == 1


def _remainder(value: object) -> float:
    if not isinstance(value, int | float):
        # `%` after a text means that it is a format, and `%999999999d` asks for a gigabyte.
        raise TypeError("only a number is even or odd")
    return value % 2


_ENVIRONMENT.filters |= {"round": _round, "trim": _trim}
_ENVIRONMENT.tests |= {"even": _is_even, "odd": _is_odd}


class Filling:
    """One text with places to fill; raises BadArguments, with the sentence for the person, for all that is wrong."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        if len(text) > LONGEST_TEMPLATE:
            raise BadArguments(f"{where} is longer than {LONGEST_TEMPLATE:,} characters. Shorten it.")
        try:
            tree = _ENVIRONMENT.parse(text)
            for count, node in enumerate(_below(tree)):
                if count == _MOST_PARTS:
                    raise BadArguments(f"{where} has more than {_MOST_PARTS:,} parts to fill. Shorten it.")
                _check(node, where)
            self.names = find_undeclared_variables(tree)
            self._filters = sum(node.name not in _FREE for node in tree.find_all(nodes.Filter))
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as problem:
            raise BadArguments(f"{where}, line {problem.lineno}: {problem.message}.") from problem
        except (RecursionError, MemoryError, OverflowError, SyntaxError) as problem:
            raise BadArguments(f"{where} is nested too deeply. Write it flatter.") from problem
        except ValueError as problem:
            raise BadArguments(f"{where} holds a number that nobody can read.") from problem

    def check_names(self, known: Iterable[str]) -> None:
        for name in sorted(self.names - set(known)):
            raise BadArguments(
                f"{self._where}: {{{{ {name} }}}} is no column of the table. It has: {', '.join(sorted(known))}."
            )

    def filled(self, variables: Mapping[str, object]) -> str:
        longest = max((len(value) for value in map(variables.get, self.names) if isinstance(value, str)), default=0)
        if self._filters * longest > _MOST_WORK:
            raise BadArguments(
                f"{self._where} has {self._filters:,} filters, too many for a value of {longest:,} characters."
            )
        pieces, length = [], 0
        try:
            for piece in self._template.generate(variables):
                length += len(piece)
                if length > LONGEST_TEXT:
                    raise BadArguments(f"{self._where} becomes longer than {LONGEST_TEXT:,} characters.")
                pieces.append(piece)
        except UndefinedError as problem:
            name = next(iter(sorted(self.names - set(variables))), "a name")
            raise BadArguments(
                f"{self._where}: there is no value for {name}. Fill it in, or write {{{{ {name}|default('') }}}}."
            ) from problem
        except (TemplateError, ArithmeticError, NameError, TypeError, ValueError) as problem:
            # A NameError: Jinja writes an infinite number as `inf` into its code.
            raise BadArguments(f"{self._where} cannot be filled: {problem}.") from problem
        return "".join(pieces)


def _check(node: nodes.Node, where: str) -> None:
    fine = isinstance(node, _NODES)
    if isinstance(node, nodes.Filter):
        fine = node.name in _FILTERS
    elif isinstance(node, nodes.Test):
        fine = node.name in _TESTS
    elif isinstance(node, nodes.Name):
        fine = node.name != "self"  # Jinja's own name for the template
    if not fine:
        word = getattr(node, "name", None) or type(node).__name__.lower()
        raise BadArguments(
            f"{where}, line {node.lineno}: {word} cannot be used here. Use {{{{ column }}}}, the filters "
            f"{', '.join(sorted(_FILTERS))}, and {{% if … %}}."
        )


def _below(node: nodes.Node, depth: int = 1) -> Iterator[nodes.Node]:
    if depth > _DEEPEST:
        raise RecursionError
    for child in node.iter_child_nodes():
        yield child
        yield from _below(child, depth + 1)


def variable_name(column: str) -> str:
    """How a column is called in a template: `First name` is first_name."""
    name = re.sub(r"\W+", "_", column.strip().lower()).strip("_")
    return f"column_{name}" if not name or name[0].isdigit() else name
