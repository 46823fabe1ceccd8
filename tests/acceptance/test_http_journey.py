"""What a script does, over HTTP, on PostgreSQL and RabbitMQ: real web, worker and beat processes."""

import socket
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from vega_datasets import data as datasets

from tests.acceptance.installation import Installation, installation
from tests.helpers import wait_until
from tests.services import PostgreSQL, RabbitMQ

MANY = 400_000
LIMIT = 60_000_000


@pytest.fixture(scope="module")
def database_url(postgresql: PostgreSQL) -> str:
    return postgresql.create_database(f"journey_{uuid4().hex}")


@pytest.fixture(scope="module")
def site(database_url: str, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = {
        "DATABASE_URL": database_url,
        "BROKER_URL": rabbitmq.create_vhost(f"journey-{uuid4().hex}"),
        "LEASE_SECONDS": "3",
        "MAX_UPLOAD_BYTES": str(LIMIT),
    }
    with installation(tmp_path_factory.mktemp("site"), **settings) as running:
        yield running


def rows_in(database_url: str, table: str) -> tuple[int, int]:
    """All rows, and how many different ones."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(f"SELECT count(*), count(DISTINCT number) FROM {table}").fetchone()  # type: ignore[arg-type]
    assert found is not None
    return found


def loaded_tables(database_url: str, upload_id: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE %s", (f"t_{upload_id.replace('-', '')}%",)
        )
        return {name for (name,) in found if not name.endswith("_bad")}


def test_a_script_uploads_polls_and_reads(site: Installation):
    before = site.get("/stats")["accepted"]
    status, upload = site.upload(datasets.airports.raw(), "airports.csv")
    assert status == 202

    job = site.finished(upload["job_id"])

    assert (job["state"], job["result"]["rows"], job["queue"]) == ("succeeded", 3376, "uploads")
    shown = site.get(f"/uploads/{upload['id']}")
    assert (shown["state"], shown["rows"], shown["bad_rows"]) == ("succeeded", 3376, 0)
    types = {column["name"]: column["type"] for column in shown["report"]["columns"]}
    assert (types["name"], types["latitude"]) == ("text", "decimal")
    stats = site.get("/stats")
    assert stats["accepted"] > before
    assert stats["drift"] == 0
    assert job["id"] in [item["id"] for item in site.get("/jobs?task=uploads.load_table")["items"]]


def test_what_is_no_table_is_a_problem_and_no_job(site: Installation):
    before = len(site.get("/jobs?task=uploads.load_table")["items"])
    status, problem = site.upload(b"\x1f\x8b\x08" + bytes(100))
    assert (status, problem["status"]) == (422, 422)
    assert "gzip archive" in problem["detail"]
    assert len(site.get("/jobs?task=uploads.load_table")["items"]) == before


def test_a_key_sent_twice_is_one_upload(site: Installation):
    key = {"Idempotency-Key": uuid4().hex}
    (_, first), (_, second) = site.upload(b"a,b\n1,2\n", **key), site.upload(b"a,b\n1,2\n", **key)
    assert first["id"] == second["id"]


# --- as no well-behaved client sends it: what gunicorn makes of it ------------------------------------------


def talk(site: Installation, head: str, *pieces: bytes) -> bytes:
    """One raw request; answers the beginning of the response."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=15) as connection:
        lines = [
            "POST /api/v1/uploads HTTP/1.1",
            "Host: here",
            f"Authorization: Bearer {site.token}",
            "Content-Type: multipart/form-data; boundary=cut",
            "Connection: close",
        ]
        connection.sendall(("\r\n".join(lines) + f"\r\n{head}\r\n\r\n").encode())
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has answered and hung up: that is its right.
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


BODY = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na,b\n1,2\n\r\n--cut--\r\n'


def chunk(block: bytes) -> bytes:
    return f"{len(block):x}\r\n".encode() + block + b"\r\n"


def uploads_listed(site: Installation) -> int:
    return len(site.get("/jobs?task=uploads.load_table&limit=200")["items"])


def test_a_body_in_chunks_is_taken(site: Installation):
    assert b" 202 " in talk(site, "Transfer-Encoding: chunked", chunk(BODY[:50]), chunk(BODY[50:]), b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        (f"Content-Length: {LIMIT * 2}", [BODY]),
        ("Content-Length: 5000", [BODY[:-30]]),
        (f"Content-Length: {len(BODY) - 20}", [BODY]),
        ("Content-Length: -5", [BODY]),
        ("Transfer-Encoding: chunked", [chunk(BODY[:60])]),
    ],
    ids=["far too long", "longer than sent", "shorter than sent", "negative", "broken off"],
)
def test_a_length_that_lies_makes_no_upload(site: Installation, head: str, pieces: list[bytes]):
    before = uploads_listed(site)
    answer = talk(site, head, *pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert b"Traceback" not in answer
    assert uploads_listed(site) == before


# --- cancelled and run again --------------------------------------------------------------------------------


def test_a_job_that_is_run_again_while_its_process_still_dies_runs_again(site: Installation):
    job_id = site.submit("diagnostics.sleep", 60)
    wait_until(lambda: site.get(f"/jobs/{job_id}")["state"] == "running", 20, "it runs")
    assert site.ask("POST", f"/jobs/{job_id}/cancel")[0] == 202
    assert site.ask("POST", f"/jobs/{job_id}/run-again")[0] == 202
    wait_until(lambda: site.get(f"/jobs/{job_id}")["state"] == "running", 20, "it runs again")
    assert site.ask("POST", f"/jobs/{job_id}/cancel")[0] == 202


# --- the power cut ------------------------------------------------------------------------------------------


def test_a_worker_killed_while_it_loads_ends_in_one_table_and_disturbs_nobody(site: Installation, database_url: str):
    site.add_worker("other")
    table = "number,name,share\n" + "".join(f"{n},name {n % 997},{n / 7:.3f}\n" for n in range(MANY))
    # Until one job of each kind runs where it should: the upload in the worker that will die, a sleeper in the other.
    doomed = {worker["id"] for worker in site.get("/workers")["items"] if "other" not in worker["id"]}
    upload = wait_until(lambda: _upload_that_runs_in(site, table.encode(), doomed), 60, "the first worker loads")
    sleepers = [site.submit("diagnostics.sleep", 8) for _ in range(3)]
    spared = wait_until(lambda: _running_elsewhere(site, sleepers, doomed), 15, "the other worker has a job")

    site.kill_worker()

    job = site.finished(upload["job_id"])
    assert (job["state"], job["result"]["rows"]) == ("succeeded", MANY)
    assert job["attempt"] == 2
    assert job["attempts"][0]["outcome"] == "rescued"
    loaded = site.get(f"/uploads/{upload['id']}")
    assert rows_in(database_url, loaded["table"]) == (MANY, MANY)
    for job_id in spared:
        assert (site.finished(job_id)["state"], site.get(f"/jobs/{job_id}")["attempt"]) == ("succeeded", 1)
    for job_id in sleepers:
        assert site.finished(job_id)["state"] == "succeeded"
    assert site.finished(site.submit("uploads.sweep"))["state"] == "succeeded"
    assert loaded_tables(database_url, upload["id"]) == {loaded["table"]}
    assert site.get("/stats")["drift"] == 0


def _upload_that_runs_in(site: Installation, content: bytes, workers: set[str]) -> dict[str, str] | None:
    """An upload that one of these workers is loading just now, half-way."""
    status, upload = site.upload(content)
    assert status == 202

    def moves() -> dict[str, object] | None:
        job = site.get(f"/jobs/{upload['job_id']}")
        assert job["state"] != "succeeded", "it was over before it was seen"
        progress = job["progress"]
        loading = progress and progress["message"] == "Loading rows" and progress["current"]
        return job if loading or (job["worker"] and job["worker"] not in workers) else None

    job = wait_until(moves, 30, "rows are being loaded")
    if job["worker"] in workers:
        return upload
    site.ask("POST", f"/jobs/{upload['job_id']}/cancel")
    return None


def _running_elsewhere(site: Installation, job_ids: list[str], workers: set[str]) -> list[str]:
    jobs = [site.get(f"/jobs/{job_id}") for job_id in job_ids]
    return [job["id"] for job in jobs if job["state"] == "running" and job["worker"] not in workers]
