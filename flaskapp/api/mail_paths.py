"""The endpoints of mail, described: messages, merges, reply templates, and who wants no mail."""

from typing import Any

from flaskapp.api.operations import IDEMPOTENCY_KEY, gives, in_path, json_body, operation, pages_of, query
from flaskapp.mail.models import RecipientState

_MESSAGE_ID = in_path("message_id", "The message's id.")
_TEMPLATE_ID = in_path("template_id", "The reply template's number.")
_ADDRESS = in_path("address", "The mail address, percent-encoded.")
_ONE_MESSAGE = {"parameters": [_MESSAGE_ID, IDEMPOTENCY_KEY]}
_ONLY_THESE = query(
    "state",
    {"type": "string", "enum": [state.value for state in RecipientState]},
    "Only recipients in this state; may be repeated.",
)

MAIL_PATHS: dict[str, dict[str, Any]] = {
    "/messages": {
        "post": operation(
            "Write a mail to one or many; each recipient's fate is a row",
            {"202": gives("Message", "Accepted; a job sends it")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewMessage"),
        ),
        "get": operation(
            "List messages, newest first",
            {"200": gives("Messages", "One page; pass `next` as `cursor` for older ones")},
            parameters=pages_of("Messages"),
        ),
    },
    "/messages/{message_id}": {
        "get": operation("Show one message and who got it", {"200": gives("Message", "It")}, parameters=[_MESSAGE_ID])
    },
    "/messages/{message_id}/recipients": {
        "get": operation(
            "List its recipients in the order in which they were written",
            {"200": gives("Recipients", "One page; pass `next` as `cursor` for the following ones")},
            parameters=[_MESSAGE_ID, _ONLY_THESE, *pages_of("Recipients")],
        )
    },
    "/messages/{message_id}/recipients.csv": {
        "get": operation(
            "Export its recipients",
            {"200": {"description": "A table", "content": {"text/csv": {"schema": {"type": "string"}}}}},
            parameters=[_MESSAGE_ID, _ONLY_THESE],
        )
    },
    "/messages/{message_id}/cancel": {
        "post": operation(
            "Send it to nobody else; 409 if nobody is left",
            {"202": gives("Message", "Cancelled for whoever has not got it")},
            **_ONE_MESSAGE,
        )
    },
    "/messages/{message_id}/pause": {
        "post": operation("Take no further recipient", {"202": gives("Message", "Paused")}, **_ONE_MESSAGE)
    },
    "/messages/{message_id}/resume": {
        "post": operation("Go on", {"202": gives("Message", "Going on")}, **_ONE_MESSAGE)
    },
    "/messages/{message_id}/retry": {
        "post": operation(
            "Send again to those who were rejected or expired; 409 if nobody was",
            {"202": gives("Message", "They are queued again")},
            requestBody={**json_body("RetryMessage"), "required": False},
            **_ONE_MESSAGE,
        )
    },
    "/merges": {
        "post": operation(
            "Write to everybody in an uploaded table; 422 names the row that cannot be filled",
            {"202": gives("Message", "Accepted; a job checks all rows, and only then is it sent")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewMerge"),
        )
    },
    "/merges/preview": {
        "post": operation(
            "Fill the texts of a merge for one row; nothing is sent",
            {"200": gives("MergedMail", "The mail of that row")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("MergePreview"),
        )
    },
    "/reply-templates": {
        "get": operation("List the reply templates by name", {"200": gives("ReplyTemplates", "All of them")}),
        "post": operation(
            "Keep a text that is sent again and again (operator); 409 if the name is taken",
            {"201": gives("ReplyTemplate", "Kept")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewReplyTemplate"),
        ),
    },
    "/reply-templates/{template_id}": {
        "get": operation("Show a reply template", {"200": gives("ReplyTemplate", "It")}, parameters=[_TEMPLATE_ID]),
        "put": operation(
            "Change name, subject and text of a reply template (operator); 409 if the name is taken",
            {"200": gives("ReplyTemplate", "As it is now")},
            parameters=[_TEMPLATE_ID],
            requestBody=json_body("NewReplyTemplate"),
        ),
        "delete": operation(
            "Delete a reply template (operator)",
            {"200": gives("ReplyTemplate", "As it was")},
            parameters=[_TEMPLATE_ID],
        ),
    },
    "/suppressions": {
        "get": operation(
            "List the addresses that get no mail from here (operator)",
            {"200": gives("Suppressions", "One page, by address; pass `next` as `cursor` for the following ones")},
            parameters=pages_of("Addresses"),
        ),
        "post": operation(
            "Send no more mail to an address, also none that is on its way (operator)",
            {"201": gives("Suppression", "On the list"), "200": gives("Suppression", "It was on the list already")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewSuppression"),
        ),
    },
    "/suppressions/{address}": {
        "get": operation(
            "Show why an address gets no mail (operator)", {"200": gives("Suppression", "It")}, parameters=[_ADDRESS]
        ),
        "delete": operation(
            "Let an address get mail again (operator)",
            {"200": gives("Suppression", "As it was")},
            parameters=[_ADDRESS],
        ),
    },
}
