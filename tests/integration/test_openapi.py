"""The API's description is true: it names every route, its answers have the shapes it says, and nothing breaks it.

The fuzzer is driven by the document: every operation, every parameter and every field gets everything that JSON
and a URL can carry. Each run has its own seed; a failure prints it.
"""

import io
import json
import os
import random
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select, update

from flaskapp.api.openapi import document
from flaskapp.jobs.letters import Letter, record
from flaskapp.jobs.models import DeadLetter, Firing, Schedule
from flaskapp.jobs.outcomes import Wish
from flaskapp.jobs.schedules import Order
from flaskapp.mail.models import Recipient
from flaskapp.worker.testing import run_due_jobs
from tests.integration.doors_fixtures import Doors, Script

DOCUMENT = document()
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**63, -(2**63), 10**400, "", " ", "x", "null", "\0"),
    *(
        "\n",
        "a\r\nSet-Cookie: x=1",
        "\u202e",
        "報告",
        "💩",
        "\ud800",
        "%s%n{0}{{7*7}}",
        "' OR 1=1 --",
        "../../etc/passwd",
    ),
    *("x" * 300, "2026-01-01", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0000-00-00", "NaN", "-1", "0"),
    *([], [None], [[[]]], ["x"] * 50, {}, {"": None}, {"__type__": "uuid", "__value__": 1}, {"task": {}}),
    *({"__proto__": 1}, {"a": {"b": {"c": [1]}}}, "default", "waiting", "diagnostics.echo", "diagnostics.fail"),
]


# --- the document -----------------------------------------------------------------------------------------


def test_the_document_names_exactly_the_routes(doors: Doors):
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix("/api/v1")))
        for rule in doors.app.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert routes == set(OPERATIONS)


def test_every_post_takes_an_idempotency_key_and_every_path_names_its_parts():
    for method, path in OPERATIONS:
        parameters = {(p["in"], p["name"]) for p in DOCUMENT["paths"][path][method].get("parameters", [])}
        assert {("path", name) for name in re.findall(r"{(\w+)}", path)} <= parameters, path
        assert method != "post" or ("header", "Idempotency-Key") in parameters, path


def test_every_reference_leads_somewhere():
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(DOCUMENT)))
    assert names <= set(DOCUMENT["components"]["schemas"])


def test_the_document_can_be_fetched(doors: Doors):
    answer = doors.script().get("/openapi.json")
    assert answer.json == json.loads(json.dumps(DOCUMENT))
    assert answer.json["openapi"].startswith("3.")


# --- answers have the shapes ------------------------------------------------------------------------------


def misfits(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        tried = [misfits(value, one, where) for one in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types
    if types and not any(is_of_type(value, one) for one in types):
        return [f"{where} is {value!r}, not {types}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is {value!r}, not one of {schema['enum']}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{where}.{name} is missing" for name in schema["required"] if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where}.{name} is not described" for name in value if name not in schema["properties"]]
        for name, part in schema["properties"].items():
            found += misfits(value[name], part, f"{where}.{name}") if name in value else []
    if isinstance(value, list) and "items" in schema:
        for n, item in enumerate(value):
            found += misfits(item, schema["items"], f"{where}[{n}]")
    return found


def is_of_type(value: Any, name: str) -> bool:
    kinds = {"string": str, "integer": int, "number": (int, float), "object": dict, "array": list, "boolean": bool}
    if name == "null":
        return value is None
    return isinstance(value, kinds[name]) and not (isinstance(value, bool) and name != "boolean")


def described(method: str, path: str, status: int) -> dict[str, Any]:
    responses = DOCUMENT["paths"][path][method]["responses"]
    response = responses.get(str(status), responses["default"])
    (content,) = response["content"].items()
    return {"type": content[0], **content[1]}


def check_answer(method: str, path: str, answer: Any) -> None:
    expected = described(method, path, answer.status_code)
    if expected["type"] == "text/csv":
        assert answer.content_type.startswith("text/csv"), (method, path, answer.content_type)
        return
    assert answer.content_type == expected["type"], (method, path, answer.status_code, answer.text)
    assert misfits(answer.json, expected["schema"]) == []


def takes_a_file(method: str, path: str) -> bool:
    return "multipart/form-data" in DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})


def a_file(content: bytes, name: str = "table.csv", field: str = "file") -> dict[str, Any]:
    return {"data": {field: (io.BytesIO(content), name)}, "content_type": "multipart/form-data"}


def test_answers_have_the_shapes_that_are_described(doors: Doors):
    boss = doors.script("boss", "operator")
    job_id = boss.submit(run_at="2031-01-01T00:00:00Z", unique_key="k")["id"]
    upload_id = boss.post("/uploads", **a_file(b"Name,E-Mail\nAda,ada@example.org\n")).json["id"]
    with doors.app.app_context():
        run_due_jobs()
    with doors.session() as session, session.begin():
        record(session, Letter("rejected", job_id="strange", task="diagnostics.echo", body=b"[[1], {}, {}]"))
        letter_id = session.scalar(select(DeadLetter.id))
    to = ["ada@example.org", "bob@example.org"]
    message_id = boss.post("/messages", {"to": to, "subject": "Hello", "text": "Dear both"}).json["id"]
    with doors.session() as session, session.begin():
        session.execute(update(Recipient).where(Recipient.address == "bob@example.org").values(state="rejected"))
    hello = {"name": "Hello", "subject": "Hello", "text": "Dear reader"}
    parts = {
        "template_id": boss.post("/reply-templates", hello).json["id"],
        "address": boss.post("/suppressions", {"address": "Eve@example.org", "reason": "asked to"}).json["address"],
        "message_id": message_id,
        "job_id": job_id,
        "name": "default",
        "upload_id": upload_id,
        "letter_id": letter_id,
        "query_id": boss.post("/queries", {"sql": "SELECT 1"}).json["id"],
        "schedule": "rhythm",
        "key": "customer",
    }
    with doors.session() as session:
        order = Order(Wish("diagnostics.echo", "[1]")).to_json()
        session.add(Schedule(name="rhythm", task="diagnostics.echo", rhythm="every 60 s", wish=order))
        session.add(Schedule(name="gone", task="diagnostics.echo", rhythm="0 3 * * *", gone_at=datetime.now(UTC)))
        session.add(Firing(schedule="rhythm", due_at=datetime.now(UTC), outcome="missed", reason="nobody looked"))
        session.commit()
    assert boss.ask("put", "/limits/customer", {"max_running": 2}).status_code == 200
    bodies = {
        "/jobs": {"task": "diagnostics.echo", "args": [1]},
        "/jobs/bulk": {"jobs": [{"task": "diagnostics.echo", "args": [1]}]},
        "/queries": {"sql": "SELECT :a", "parameters": {"a": 1}},
        "/queues/{name}/limits": {"max_running": 3, "rate": {"count": 10, "seconds": 60}},
        "/messages": {"to": ["Ada <ada@example.org>"], "subject": "Hello", "text": "", "html": "<p>Dear Ada</p>"},
        "/messages/{message_id}/retry": {"unknown": False},
        "/merges": {"upload": upload_id, "subject": "Hello", "text": "Dear {{ name }}"},
        "/merges/preview": {"upload": upload_id, "subject": "Hello", "text": "Dear {{ name }}", "row": 1},
        "/reply-templates": {**hello, "name": "Another"},
        "/reply-templates/{template_id}": {**hello, "text": "Dear **reader**"},
        "/suppressions": {"address": "bob@example.org"},
        "/limits/{key}": {"rate": {"count": 1, "seconds": 0.5}},
    }
    for method, path in OPERATIONS:
        address = path.format(**parts | ({"schedule": "gone"} if path.endswith("/remove") else {}))
        if takes_a_file(method, path):
            answer = boss.post(address, **a_file(b"a,b\n1,2\n"))
        else:
            answer = boss.ask(method, address, None if method == "get" else bodies.get(path))
        assert answer.status_code < 300, (method, path, answer.text)
        check_answer(method, path, answer)


# --- nothing breaks it ------------------------------------------------------------------------------------


def seeds() -> list[int]:
    chosen = os.environ.get("FUZZ_SEED")
    # The processes of one run must collect the same tests.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    return [int(chosen)] if chosen else [1, 2, random.Random(run).randrange(10**6)]


def a_body(rng: random.Random, schema: dict[str, Any]) -> Any:
    """Sometimes right, often nearly right, sometimes nothing like it."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if rng.random() < 0.25 or not schema.get("type"):
        return rng.choice(STRANGE)
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "object" and "properties" in schema:
        names = [name for name in schema["properties"] if name in schema["required"] or rng.random() < 0.3]
        body = {name: a_body(rng, schema["properties"][name]) for name in names}
        if rng.random() < 0.1:
            body[rng.choice(["id", "owner", "\0", "x" * 500])] = rng.choice(STRANGE)
        return body
    if kind == "array":
        return [a_body(rng, schema.get("items", {})) for _ in range(rng.randrange(4))]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    return rng.choice(["diagnostics.echo", "diagnostics.sleep"]) if kind == "string" else rng.randrange(-2, 1200)


def in_address(rng: random.Random, known: list[str]) -> str:
    value = rng.choice([*known, *STRANGE])
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def knock(rng: random.Random, script: Script, method: str, path: str, known: list[str]) -> Any:
    operation = DOCUMENT["paths"][path][method]
    address = re.sub(r"{\w+}", lambda _: in_address(rng, known) or "x", path)
    asked = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query" and rng.random() < 0.4]
    if asked:
        address += "?" + "&".join(f"{name}={in_address(rng, known)}" for name in asked)
    if method == "get":
        return script.get(address)
    headers = {"Idempotency-Key": rng.choice(["a", "b", "x" * 300, str(rng.random())])} if rng.random() < 0.4 else {}
    if takes_a_file(method, path):
        return script.post(address, **a_strange_file(rng), headers=headers)
    if "requestBody" not in operation:
        return script.ask(method, address, headers=headers)
    return script.ask(
        method, address, a_body(rng, operation["requestBody"]["content"]["application/json"]["schema"]), headers=headers
    )


def a_strange_file(rng: random.Random) -> dict[str, Any]:
    value = rng.choice(STRANGE)
    content = json.dumps(value).encode() if rng.random() < 0.7 else rng.randbytes(rng.randrange(300))
    # Names that no HTTP client can send are left to a test of their own.
    name = rng.choice([one for one in STRANGE if isinstance(one, str) and one.isprintable() and one])
    return a_file(content, name, rng.choice(["file", "file", "other"]))


@pytest.mark.parametrize("seed", seeds())
def test_no_request_breaks_the_api(doors: Doors, seed: int):
    rng = random.Random(seed)
    doors.app.config["PROPAGATE_EXCEPTIONS"] = False
    script = doors.script("boss", "operator")
    known = [script.submit()["id"], "default", "mail"]
    for _ in range(25):
        for method, path in OPERATIONS:
            answer = knock(rng, script, method, path, known)
            assert answer.status_code < 500, (seed, method, answer.request.url, answer.text)
            if answer.status_code >= 400 and answer.status_code != 308:
                assert answer.content_type == "application/problem+json", (seed, method, answer.request.url)
                assert misfits(answer.json, {"$ref": "#/components/schemas/Problem"}) == []
    stats = script.get("/stats").json
    assert stats["drift"] == 0


def test_wrong_json_types_at_every_field_are_refused_one_by_one(doors: Doors):
    doors.app.config["PROPAGATE_EXCEPTIONS"] = False
    script = doors.script()
    for field in DOCUMENT["components"]["schemas"]["NewJob"]["properties"]:
        for value in STRANGE:
            answer = script.post("/jobs", {"task": "diagnostics.echo", "args": [1], field: value})
            assert answer.status_code in (200, 202, 422), (field, value, answer.text)
