"""The API's own description, OpenAPI 3.1. A test keeps it equal to the routes, another its answers to its shapes.

A new endpoint adds its path to PATHS or a page like MAIL_PATHS, and its shapes to SCHEMAS or a page like QUEUE_SCHEMAS.
"""

from typing import Any

from flask import Response

from flaskapp.api.blueprint import answer, api
from flaskapp.api.mail_paths import MAIL_PATHS
from flaskapp.api.mail_schemas import MAIL_SCHEMAS
from flaskapp.api.operations import IDEMPOTENCY_KEY, gives, in_path, json_body, operation, pages_of, query
from flaskapp.api.query_schemas import QUERY_SCHEMAS
from flaskapp.api.queue_schemas import QUEUE_SCHEMAS
from flaskapp.api.schemas import SCHEMAS, ref
from flaskapp.jobs.models import JobState

_JOB_ID = in_path("job_id", "The job's id.")
_QUEUE = in_path("name", "The queue's name.")
_SCHEDULE = in_path("schedule", "The schedule's name, percent-encoded.")
_KEY = in_path("key", "The `limit_key` of the jobs.")
_QUERY_ID = in_path("query_id", "The question's id.")
_UPLOAD_ID = in_path("upload_id", "The upload's id.")
_ONE_OF_THE_STATES = {"type": "string", "enum": [state.value for state in JobState]}

PATHS: dict[str, dict[str, Any]] = {
    "/jobs": {
        "post": operation(
            "Submit one job",
            {"202": gives("Job", "Accepted"), "200": gives("Job", "The live job that holds this unique_key")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewJob"),
        ),
        "get": operation(
            "List jobs, newest first",
            {"200": gives("Jobs", "One page; pass `next` as `cursor` for older ones")},
            parameters=[
                query("state", _ONE_OF_THE_STATES, "Only jobs in this state; may be repeated."),
                query("task", {"type": "string"}, "Only jobs of this task."),
                query("queue", {"type": "string"}, "Only jobs of this queue."),
                query("q", {"type": "string"}, "Part of the task or error message, or how the id begins."),
                *pages_of("Jobs"),
            ],
        ),
    },
    "/jobs/bulk": {
        "post": operation(
            "Submit up to 1,000 jobs, all or none",
            {"202": gives("JobIds", "Accepted; the ids in the order of the jobs")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewJobs"),
        )
    },
    "/jobs/{job_id}": {"get": operation("Show one job", {"200": gives("Job", "The job")}, parameters=[_JOB_ID])},
    "/jobs/{job_id}/cancel": {
        "post": operation(
            "Cancel a job that is not final; 409 names the state that forbids it",
            {"202": gives("Job", "Cancelled; a running attempt is stopped soon")},
            parameters=[_JOB_ID, IDEMPOTENCY_KEY],
        )
    },
    "/jobs/{job_id}/run-again": {
        "post": operation(
            "Run a failed or cancelled job again; 409 names the state that forbids it",
            {"202": gives("Job", "Waiting again")},
            parameters=[_JOB_ID, IDEMPOTENCY_KEY],
        )
    },
    "/uploads": {
        "post": operation(
            "Hand over a table as a file; it is loaded by a job",
            {"202": gives("Upload", "Accepted; `job_id` names the job that loads it")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody={"required": True, "content": {"multipart/form-data": {"schema": ref("NewUpload")}}},
        )
    },
    "/uploads/{upload_id}": {
        "get": operation("Show one upload", {"200": gives("Upload", "The upload")}, parameters=[_UPLOAD_ID])
    },
    "/queries": {
        "post": operation(
            "Ask a question in SQL; a job finds the answer",
            {"202": gives("AskedQuery", "Accepted; GET /queries/ID has the answer once the job is done")},
            parameters=[IDEMPOTENCY_KEY],
            requestBody=json_body("NewQuery"),
        )
    },
    "/queries/{query_id}": {
        "get": operation("Show a question and its answer", {"200": gives("Query", "It")}, parameters=[_QUERY_ID])
    },
    "/queries/{query_id}/cancel": {
        "post": operation(
            "Stop a question that is not finished; 409 names the state that forbids it",
            {"202": gives("Query", "Cancelled; its process is ended soon")},
            parameters=[_QUERY_ID, IDEMPOTENCY_KEY],
        )
    },
    "/stats": {"get": operation("Counts by state and the conservation check", {"200": gives("Stats", "Now")})},
    "/queues": {"get": operation("How much stands in each queue", {"200": gives("Queues", "All queues")})},
    "/queues/{name}/pause": {
        "post": operation(
            "Start no more jobs of a queue (operator)",
            {"200": gives("Queue", "Paused")},
            parameters=[_QUEUE, IDEMPOTENCY_KEY],
        )
    },
    "/queues/{name}/drain": {
        "post": operation(
            "Let what is at the broker finish; new work is accepted and waits (operator)",
            {"200": gives("Queue", "Draining")},
            parameters=[_QUEUE, IDEMPOTENCY_KEY],
        )
    },
    "/queues/{name}/resume": {
        "post": operation(
            "Start jobs of a queue again (operator)",
            {"200": gives("Queue", "Running")},
            parameters=[_QUEUE, IDEMPOTENCY_KEY],
        )
    },
    "/queues/{name}/limits": {
        "post": operation(
            "Limit all jobs of a queue; what is left out is not limited (operator)",
            {"200": gives("Queue", "With the new limits")},
            parameters=[_QUEUE, IDEMPOTENCY_KEY],
            requestBody=json_body("NewLimit"),
        )
    },
    "/limits": {"get": operation("Every key that has a limit (operator)", {"200": gives("Limits", "All limits")})},
    "/limits/{key}": {
        "get": operation("Show the limit of a key (operator)", {"200": gives("Limit", "It")}, parameters=[_KEY]),
        "put": operation(
            "Set the whole limit of a key (operator)",
            {"200": gives("Limit", "It holds from now on")},
            parameters=[_KEY],
            requestBody=json_body("NewLimit"),
        ),
        "delete": operation(
            "Take the limit of a key away (operator)", {"200": gives("Limit", "Not limited")}, parameters=[_KEY]
        ),
    },
    "/dead-letters": {
        "get": operation(
            "Messages that could not be delivered as jobs, newest first (operator)",
            {"200": gives("Letters", "One page; pass `next` as `cursor` for older ones")},
            parameters=[
                *pages_of("Letters"),
            ],
        )
    },
    "/dead-letters/{letter_id}/replay": {
        "post": operation(
            "Make a dead letter a job again (operator); 409 says why it cannot be",
            {"202": gives("Letter", "Its job waits now")},
            parameters=[in_path("letter_id", "The letter's number."), IDEMPOTENCY_KEY],
        )
    },
    "/schedules": {"get": operation("Each rhythm and its due times", {"200": gives("Schedules", "All schedules")})},
    "/schedules/{schedule}/run": {
        "post": operation(
            "Submit its job now, whatever its rhythm (operator); 409 says why it cannot",
            {"202": gives("Job", "Accepted"), "200": gives("Job", "The live job that holds its unique_key")},
            parameters=[_SCHEDULE, IDEMPOTENCY_KEY],
        )
    },
    "/schedules/{schedule}/pause": {
        "post": operation(
            "Let a schedule make no jobs (operator)",
            {"200": gives("Schedule", "Paused")},
            parameters=[_SCHEDULE, IDEMPOTENCY_KEY],
        )
    },
    "/schedules/{schedule}/resume": {
        "post": operation(
            "Let it make jobs again, from now on (operator)",
            {"200": gives("Schedule", "Running")},
            parameters=[_SCHEDULE, IDEMPOTENCY_KEY],
        )
    },
    "/schedules/{schedule}/remove": {
        "post": operation(
            "Forget a schedule whose entry is gone (operator); 409 if a beat still has it",
            {"200": gives("Schedule", "As it was")},
            parameters=[_SCHEDULE, IDEMPOTENCY_KEY],
        )
    },
    "/workers": {"get": operation("The live worker and beat processes", {"200": gives("Workers", "All live ones")})},
    "/openapi.json": {
        "get": operation(
            "This document",
            {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}}},
        )
    },
}


@api.get("/openapi.json")
def openapi_document() -> Response:
    return answer(document())


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Offload",
            "version": "1",
            "description": "Jobs that are too slow for a web request. Every refusal is application/problem+json.",
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"bearer": []}],
        "paths": PATHS | MAIL_PATHS,
        "components": {
            "schemas": SCHEMAS | MAIL_SCHEMAS | QUERY_SCHEMAS | QUEUE_SCHEMAS,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`flask users token NAME` or the account page makes a token.",
                }
            },
        },
    }
