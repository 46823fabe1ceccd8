"""The shapes of the API as JSON Schema: what goes in, what comes out."""

from typing import Any

from flaskapp.api.wishes import MOST_ATTEMPTS
from flaskapp.jobs.models import QUEUES, JobState

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
ANYTHING: Schema = {}


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def record(properties: Schema, required: list[str] | None = None) -> Schema:
    """An object whose fields are all there unless `required` names fewer."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def list_of(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    return record({"items": list_of(name)})


_error = {"anyOf": [ref("Error"), {"type": "null"}]}

SCHEMAS: dict[str, Schema] = {
    "NewJob": record(
        {
            "task": {**TEXT, "minLength": 1, "maxLength": 255},
            "args": {"type": ["array", "null"], "items": ANYTHING},
            "kwargs": {"type": ["object", "null"]},
            "queue": {"type": ["string", "null"], "enum": [*QUEUES, None]},
            "run_at": {**maybe(MOMENT), "description": "ISO 8601 with a zone; left out: now."},
            "unique_key": {
                **maybe(TEXT),
                "minLength": 1,
                "maxLength": 255,
                "description": "While a live job holds it, submitting again answers 200 with that job.",
            },
            "max_attempts": {**maybe(WHOLE), "minimum": 1, "maximum": MOST_ATTEMPTS},
        },
        required=["task"],
    ),
    "NewJobs": record({"jobs": {**list_of("NewJob"), "minItems": 1, "maxItems": 1000}}),
    "JobIds": record({"ids": {"type": "array", "items": TEXT}}),
    "State": {"type": "string", "enum": [state.value for state in JobState]},
    "Error": record({"type": TEXT, "message": TEXT, "traceback": maybe(TEXT)}),
    "Attempt": record(
        {
            "number": WHOLE,
            "worker": maybe(TEXT),
            "started_at": maybe(MOMENT),
            "finished_at": maybe(MOMENT),
            "outcome": {
                **TEXT,
                "description": "Why it was replaced (retried, stopped, crashed, rescued, failed, cancelled); "
                "of the newest attempt: the job's state.",
            },
            "error": _error,
        }
    ),
    "Job": record(
        {
            "id": TEXT,
            "task": TEXT,
            "queue": TEXT,
            "state": ref("State"),
            "attempt": WHOLE,
            "args": ANYTHING,
            "kwargs": ANYTHING,
            "result": ANYTHING,
            "error": _error,
            "attempts": list_of("Attempt"),
            "progress": {
                "anyOf": [
                    record(
                        {
                            "current": {"type": ["number", "null"]},
                            "total": {"type": ["number", "null"]},
                            "message": TEXT,
                        }
                    ),
                    {"type": "null"},
                ]
            },
            "run_at": MOMENT,
            "created_at": MOMENT,
            "queued_at": maybe(MOMENT),
            "started_at": maybe(MOMENT),
            "finished_at": maybe(MOMENT),
            "worker": maybe(TEXT),
            "owner": maybe(TEXT),
            "unique_key": maybe(TEXT),
            "schedule": maybe(TEXT),
        }
    ),
    "Jobs": record({"items": list_of("Job"), "next": maybe(TEXT)}),
    "NewUpload": record(
        {
            "file": {
                "type": "string",
                "format": "binary",
                "description": "A text table with names in its first row: comma, semicolon, tab or pipe between them.",
            }
        }
    ),
    "Upload": record(
        {
            "id": TEXT,
            "job_id": TEXT,
            "name": TEXT,
            "size": {**WHOLE, "description": "Bytes."},
            "state": {
                "type": "string",
                "enum": [*(state.value for state in JobState), "pruned"],
                "description": "Of its job; `pruned` when that is gone.",
            },
            "table": {**maybe(TEXT), "description": "The SQL table, once it is loaded."},
            "rows": maybe(WHOLE),
            "bad_rows": maybe(WHOLE),
            "report": {"anyOf": [ref("Report"), {"type": "null"}]},
        }
    ),
    "Report": record(
        {
            "encoding": TEXT,
            "delimiter": TEXT,
            "columns": {"type": "array", "items": {"type": "object"}},
            "bad_rows_listed": WHOLE,
        }
    ),
    "Stats": record(
        {
            "states": record({state.value: WHOLE for state in JobState}),
            "accepted": WHOLE,
            "pruned": WHOLE,
            "drift": {**WHOLE, "description": "0 when accepted = pruned + all states."},
            "broker": list_of("BrokerQueue"),
        }
    ),
    "BrokerQueue": record(
        {
            "queue": TEXT,
            "queued": {**WHOLE, "description": "Jobs that SQL calls queued, now."},
            "messages": {**maybe(WHOLE), "description": "Ready at the broker when it last answered."},
            "gap": {**maybe(WHOLE), "description": "Then: queued jobs in no worker's hands, less messages."},
            "answered_at": maybe(MOMENT),
            "lost": {**WHOLE, "description": "Messages proven lost at the last look; their jobs were sent again."},
            "lost_ids": {"type": "array", "items": TEXT, "maxItems": 20},
            "looked_at": maybe(MOMENT),
        }
    ),
    "Queue": record(
        {
            "name": TEXT,
            "waiting": WHOLE,
            "queued": WHOLE,
            "running": WHOLE,
            "oldest_run_at": maybe(MOMENT),
            "paused_at": maybe(MOMENT),
        }
    ),
    "Queues": page_of("Queue"),
    "Schedule": record(
        {
            "name": TEXT,
            "task": TEXT,
            "rhythm": TEXT,
            "last_due_at": MOMENT,
            "next_due_at": maybe(MOMENT),
            "paused_at": maybe(MOMENT),
            "last_job_id": maybe(TEXT),
        }
    ),
    "Schedules": page_of("Schedule"),
    "Worker": record(
        {
            "id": TEXT,
            "kind": TEXT,
            "host": TEXT,
            "pid": WHOLE,
            "queues": {"type": "array", "items": TEXT},
            "concurrency": WHOLE,
            "started_at": MOMENT,
            "heartbeat_at": MOMENT,
            "jobs": WHOLE,
            "memory": maybe(WHOLE),
        }
    ),
    "Workers": page_of("Worker"),
    "Problem": {
        "type": "object",
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": WHOLE,
            "detail": {**TEXT, "description": "What is wrong and how to mend it."},
            "state": {**TEXT, "description": "With 409: the state that forbids it."},
        },
        "required": ["type", "title", "status", "detail"],
    },
}
