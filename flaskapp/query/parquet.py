"""A script: an answer as JSON comes in, a Parquet file goes out. A column of mixed values becomes text."""

import io
import json
import sys
from typing import Any


def main() -> None:
    import polars

    answer = json.load(sys.stdin)
    series = []
    for place, name in enumerate(answer["columns"]):
        values = [row[place] for row in answer["rows"]]
        series.append(polars.Series(name, *_typed(values, polars)))
    file = io.BytesIO()
    polars.DataFrame(series).write_parquet(file, metadata={"truncated": str(answer["truncated"]).lower()})
    sys.stdout.buffer.write(file.getvalue())


def _typed(values: list[Any], polars: Any) -> tuple[list[Any], Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return values, polars.Boolean
    if kinds == {int}:
        return values, polars.Int64
    if kinds and kinds <= {int, float}:
        return [None if value is None else float(value) for value in values], polars.Float64
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values], polars.String


if __name__ == "__main__":
    main()
