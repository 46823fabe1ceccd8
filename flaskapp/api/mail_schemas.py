"""The shapes of mail in the API."""

from flaskapp.api.schemas import MOMENT, TEXT, Schema, list_of, maybe, record, ref
from flaskapp.mail.models import RecipientState

_message: Schema = {
    "id": TEXT,
    "owner": TEXT,
    "subject": TEXT,
    "created_at": MOMENT,
    "send_at": MOMENT,
    "expires_at": MOMENT,
    "paused_at": maybe(MOMENT),
    "cancelled_at": maybe(MOMENT),
    "stopped_job_id": {**maybe(TEXT), "description": "The job whose cancel paused it; resume goes on."},
    "job_id": {**maybe(TEXT), "description": "The job that sends it, or its first share."},
    "counts": {"type": "object", "description": "How many recipients are in each state."},
}

MAIL_SCHEMAS: dict[str, Schema] = {
    "NewMessage": record(
        {
            "to": {
                "type": "array",
                "items": TEXT,
                "minItems": 1,
                "maxItems": 50_000,
                "description": "`ada@example.org` or `Ada <ada@example.org>`, one person each.",
            },
            "subject": {**TEXT, "minLength": 1, "maxLength": 500},
            "text": {**TEXT, "description": "The plain text; may be empty if there is html."},
            "html": maybe(TEXT),
            "send_at": {**maybe(MOMENT), "description": "ISO 8601 with a zone; left out: now."},
            "expires_at": {**maybe(MOMENT), "description": "What was not sent by then is given up; usually two days."},
            "at_least_once": {
                "type": ["boolean", "null"],
                "description": "Send again where nobody knows whether it arrived.",
            },
        },
        required=["to", "subject"],
    ),
    "RetryMessage": record({"unknown": {"type": ["boolean", "null"]}}, required=[]),
    "Recipient": record(
        {
            "address": TEXT,
            "state": ref("RecipientState"),
            "reply": {**maybe(TEXT), "description": "What the mail server said, literally, or why there is no answer."},
        }
    ),
    "RecipientState": {"type": "string", "enum": [state.value for state in RecipientState]},
    "MessageSummary": record(_message),
    "Message": record({**_message, "recipients": list_of("Recipient")}),
    "Messages": record({"items": list_of("MessageSummary"), "next": maybe(TEXT)}),
}
