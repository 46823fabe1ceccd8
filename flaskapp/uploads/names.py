"""File names from outside: shown, and asked about in SQL; never used as a path."""

import re
import unicodedata

from flaskapp.uploads.models import Upload

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


def nice_name(upload: Upload) -> str:
    """`Ferry crossings.csv` is asked about as ferry_crossings_1a2b3c: six digits of its id tell namesakes apart."""
    stem = upload.name.rpartition(".")[0] or upload.name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40].strip("_") or "table"
    return f"{'t_' if words[0].isdigit() else ''}{words}_{upload.id.replace('-', '')[:6]}"
