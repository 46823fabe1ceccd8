"""The shapes of questions in SQL and of their answers."""

from flaskapp.api.schemas import NUMBER, TEXT, Schema, maybe, record
from flaskapp.jobs.models import JobState

QUERY_SCHEMAS: dict[str, Schema] = {
    "NewQuery": record(
        {
            "sql": {**TEXT, "description": "One SELECT; `:name` stands for a parameter."},
            "parameters": {"type": ["object", "null"], "description": "Values by name: bound, never spliced."},
        },
        required=["sql"],
    ),
    "AskedQuery": record({"id": TEXT, "job_id": TEXT}),
    "Query": record(
        {
            "id": TEXT,
            "job_id": TEXT,
            "sql": TEXT,
            "state": {
                "type": "string",
                "enum": [*(state.value for state in JobState), "pruned"],
                "description": "Of its job; `pruned` when that is gone.",
            },
            "columns": {"type": "array", "items": TEXT, "description": "Names; the same one may come twice."},
            "rows": {
                "type": "array",
                "items": {"type": "array"},
                "description": "In the order of columns. Texts stand for NaN, Infinity, -Infinity, whole numbers "
                "beyond 2^53, decimals that no float holds, times, and bytes (\\x and hexadecimal digits).",
            },
            "truncated": {"type": "boolean", "description": "There was more than is kept."},
            "error": {**maybe(TEXT), "description": "Why there is no answer."},
            "seconds": maybe(NUMBER),
            "plan": {**maybe(TEXT), "description": "What the database said it would do, where it says so."},
        }
    ),
}
