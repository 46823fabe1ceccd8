"""The shapes of the API as JSON Schema: what goes in, what comes out."""

from collections.abc import Sequence
from typing import Any

from flaskapp.api.rules import LONGEST_SECONDS, MOST_RUNNING, MOST_STARTS
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


def record(properties: Schema, required: list[str] | None = None, optional: Sequence[str] = ()) -> Schema:
    """An object whose fields are all there unless `required` names fewer, or `optional` some."""
    always = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": always if required is None else required,
        "additionalProperties": False,
    }


def list_of(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    return record({"items": list_of(name)})


_error = {"anyOf": [ref("Error"), {"type": "null"}]}
_rate = {"anyOf": [ref("Rate"), {"type": "null"}]}

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
                "description": "While a live job holds it, submitting again answers 200 with that job. Those of the "
                "application's own jobs are refused.",
            },
            "limit_key": {
                **maybe(TEXT),
                "minLength": 1,
                "maxLength": 255,
                "description": "Jobs with the same key share the limit that an operator sets for it.",
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
            "run_at": {**MOMENT, "description": "When it is due; in the year 9999 while it waits for other jobs."},
            "created_at": MOMENT,
            "queued_at": maybe(MOMENT),
            "started_at": maybe(MOMENT),
            "finished_at": maybe(MOMENT),
            "worker": maybe(TEXT),
            "owner": maybe(TEXT),
            "unique_key": maybe(TEXT),
            "limit_key": maybe(TEXT),
            "schedule": maybe(TEXT),
            "root_id": {**maybe(TEXT), "description": "The first job of its workflow, if that is another one."},
            "parent_id": maybe(TEXT),
            "group_id": maybe(TEXT),
            "children": {"type": "array", "items": TEXT, "description": "Of a single job, not in lists."},
        },
        optional=["children"],
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
    "Firing": record(
        {
            "due_at": {**maybe(MOMENT), "description": "The nominal due time, or the first of several; null: by hand."},
            "until_at": {**maybe(MOMENT), "description": "The last of several."},
            "times": {**maybe(WHOLE), "description": "How many; null: too many to count."},
            "outcome": {**TEXT, "enum": ["fired", "asked", "missed", "skipped", "paused"]},
            "reason": maybe(TEXT),
            "job_id": maybe(TEXT),
            "at": {**MOMENT, "description": "When it was decided."},
        }
    ),
    "Rate": record(
        {
            "count": {**WHOLE, "minimum": 1, "maximum": MOST_STARTS},
            "seconds": {**NUMBER, "minimum": 0.001, "maximum": LONGEST_SECONDS},
        }
    ),
    "NewLimit": record(
        {
            "max_running": {
                **maybe(WHOLE),
                "minimum": 1,
                "maximum": MOST_RUNNING,
                "description": "At most so many run at a time; left out: any number.",
            },
            "rate": {**_rate, "description": "In no span of `seconds` do more than `count` start."},
        },
        required=[],
    ),
    "Limit": record(
        {
            "key": TEXT,
            "max_running": maybe(WHOLE),
            "rate": _rate,
            "waiting": WHOLE,
            "queued": WHOLE,
            "running": WHOLE,
        }
    ),
    "Limits": page_of("Limit"),
    "Letter": record(
        {
            "id": WHOLE,
            "at": MOMENT,
            "reason": {
                **TEXT,
                "description": "rejected, expired, maxlen, delivery_limit: the broker's words; "
                "malformed, unknown task, no job, stray: what was found.",
            },
            "detail": TEXT,
            "queue": {**maybe(TEXT), "description": "Where it died."},
            "exchange": TEXT,
            "routing_key": TEXT,
            "job_id": maybe(TEXT),
            "task": maybe(TEXT),
            "headers": ANYTHING,
            "content_type": maybe(TEXT),
            "payload": {**TEXT, "description": "How it begins; what is no UTF-8 is escaped."},
            "size": {**WHOLE, "description": "Bytes of the whole payload."},
            "replayed_at": maybe(MOMENT),
            "replayed_by": maybe(TEXT),
        }
    ),
    "Letters": record({"items": list_of("Letter"), "next": maybe(TEXT)}),
    "Schedule": record(
        {
            "name": TEXT,
            "task": TEXT,
            "rhythm": TEXT,
            "timezone": TEXT,
            "missed": TEXT,
            "overlap": TEXT,
            "last_due_at": maybe(MOMENT),
            "next_due_at": {**maybe(MOMENT), "description": "Null while it is paused, gone or wrong."},
            "paused": {"type": "boolean"},
            "paused_at": maybe(MOMENT),
            "paused_by": maybe(TEXT),
            "gone_at": {**maybe(MOMENT), "description": "Since when no beat has its entry."},
            "problem": {**maybe(TEXT), "description": "What is wrong with its entry."},
            "last_job_id": maybe(TEXT),
            "last_job_state": maybe(TEXT),
            "firings": {**list_of("Firing"), "description": "What became of its newest due times, newest first."},
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
