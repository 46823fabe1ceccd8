"""The one blueprint of the API, /api/v1, and the JSON that it answers."""

import json
from typing import Any

from flask import Blueprint, Response

api = Blueprint("api", __name__, url_prefix="/api/v1")


def answer(body: Any, status: int = 200, location: str | None = None) -> Response:
    response = Response(json.dumps(body, separators=(",", ":")), status, mimetype="application/json")
    if location:
        response.headers["Location"] = location
    return response
