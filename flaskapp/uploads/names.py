"""File names from outside: shown, never used as a path."""

import re
import unicodedata

_LONGEST = 200


def display_name(sent: str | None) -> str:
    """What a person would recognise: no folders, no control or direction-changing characters, at most 200 long."""
    name = re.split(r"[/\\]", sent or "")[-1]
    name = "".join(char for char in name if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    name = name.strip().strip(".").strip()
    if len(name) > _LONGEST:
        stem, dot, ending = name.rpartition(".")
        keep = dot + ending if dot and len(ending) <= 10 else ""
        name = (stem if keep else name)[: _LONGEST - len(keep) - 1] + "…" + keep
    return name or "table"
