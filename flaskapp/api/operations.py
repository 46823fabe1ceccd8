"""The words in which openapi.py and its pages describe an endpoint."""

from typing import Any

from flaskapp.api.schemas import ref

PROBLEM = {"description": "Refused", "content": {"application/problem+json": {"schema": ref("Problem")}}}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same body gives the same answer for 24 hours; with another body, 422.",
}


def json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def gives(schema: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def operation(summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One method of one path; every one may also answer with a problem."""
    return {"summary": summary, "responses": {**answers, "default": PROBLEM}, **more}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def pages_of(what: str) -> list[dict[str, Any]]:
    """The two parameters of a list in pages."""
    size = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    return [
        query("limit", size, f"{what} in a page."),
        query("cursor", {"type": "string"}, "`next` of the page before."),
    ]


def in_path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": description}
