"""The shapes of mail in the API."""

from flaskapp.api.schemas import MOMENT, TEXT, WHOLE, Schema, list_of, maybe, page_of, record, ref
from flaskapp.mail.models import RecipientState
from flaskapp.mail.words import MESSAGE_STATES

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
    "state": {"type": "string", "enum": list(MESSAGE_STATES), "description": "The whole message in a word."},
    "problem": {**maybe(TEXT), "description": "Why nothing of it can be sent, e.g. which row of a merge has no value."},
    "counts": {"type": "object", "description": "How many recipients are in each state."},
}

_when: Schema = {
    "send_at": {**maybe(MOMENT), "description": "ISO 8601 with a zone or offset; left out: now."},
    "expires_at": {
        **maybe(MOMENT),
        "description": "What was not sent by then is given up; usually two days. A pause moves it.",
    },
    "at_least_once": {"type": ["boolean", "null"], "description": "Send again where nobody knows whether it arrived."},
    "attachments": {
        "type": ["array", "null"],
        "items": ref("NewAttachment"),
        "maxItems": 20,
        "description": "At most 20 MB together; the same bytes are stored once.",
    },
}
_merge: Schema = {
    "upload": {**TEXT, "description": "The id of an uploaded table."},
    "column": {**maybe(TEXT), "description": "The one with the addresses; left out: the one that is called like it."},
    "template": {"type": ["integer", "null"], "description": "A reply template, for what is left out below."},
    "subject": {**maybe(TEXT), "description": "With `{{ column }}` where a row's value goes."},
    "text": {**maybe(TEXT), "description": "Markdown, with `{{ column }}` and `{{ column|default('friend') }}`."},
}
_template: Schema = {
    "name": {**TEXT, "minLength": 1, "maxLength": 80},
    "subject": {**TEXT, "minLength": 1, "maxLength": 500},
    "text": {**TEXT, "minLength": 1},
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
            **_when,
        },
        required=["to", "subject"],
    ),
    "NewAttachment": record(
        {"name": {**TEXT, "minLength": 1, "maxLength": 255}, "content": {**TEXT, "contentEncoding": "base64"}}
    ),
    "NewMerge": record({**_merge, **_when}, required=["upload"]),
    "MergePreview": record(
        {**_merge, "row": {"type": ["integer", "null"], "description": "Its number, or the next one after it."}},
        required=["upload"],
    ),
    "MergedMail": record({"row": WHOLE, "to": TEXT, "subject": TEXT, "text": TEXT, "html": TEXT}),
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
    "Message": record({**_message, "attachments": list_of("Attachment"), "recipients": list_of("Recipient")}),
    "Attachment": record({"name": TEXT, "content_type": TEXT, "size": WHOLE}),
    "RecipientRow": record(
        {
            "number": {**WHOLE, "description": "Its place in the message, from 0."},
            "address": TEXT,
            "name": TEXT,
            "state": ref("RecipientState"),
            "reply": maybe(TEXT),
            "tries": WHOLE,
            "next_at": MOMENT,
            "changed_at": MOMENT,
        }
    ),
    "Recipients": record({"items": list_of("RecipientRow"), "next": maybe(TEXT)}),
    "NewReplyTemplate": record(_template),
    "ReplyTemplate": record({"id": WHOLE, **_template, "changed_at": MOMENT}),
    "ReplyTemplates": page_of("ReplyTemplate"),
    "NewSuppression": record({"address": TEXT, "reason": {**maybe(TEXT), "maxLength": 200}}, required=["address"]),
    "Suppression": record({"address": TEXT, "reason": TEXT, "created_at": MOMENT}),
    "Suppressions": record({"items": list_of("Suppression"), "next": maybe(TEXT)}),
    "Messages": record({"items": list_of("MessageSummary"), "next": maybe(TEXT)}),
}
