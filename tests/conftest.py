"""Fixtures that every test may ask for."""

import ssl
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session

import tests.tasks_for_tests  # noqa: F401 -- importing registers them
from flaskapp.extensions import control_engine
from tests.helpers import Bench, create_schema, empty, make_app, make_current
from tests.services import RabbitMQ

pytest_plugins = ["tests.services.fixtures"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Some tests log what cannot be written as UTF-8; the processes of a run tell each other in nothing else."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "replace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty database, one for each module."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('database') / 'offload.sqlite3'}"
    return str(request.getfixturevalue("postgresql").create_database(f"offload_{uuid4().hex}"))


@pytest.fixture(scope="module")
def tables(database: str) -> Iterator[Engine]:
    """That database with the application's tables."""
    engine = control_engine(make_url(database))
    create_schema(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tables: Engine) -> Iterator[Engine]:
    """The tables, empty after each test."""
    yield tables
    empty(tables)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


@pytest.fixture(scope="module")
def installation(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The application on that database and a broker that no process serves."""
    folder: Path = tmp_path_factory.mktemp("instance")
    bench = Bench(make_app(database, f"folder://{folder}/broker", folder))
    yield bench
    bench.close()


@pytest.fixture
def bench(installation: Bench) -> Iterator[Bench]:
    """The installation, current, with empty tables and nudges counted from nought."""
    make_current(installation.app)
    installation.celery.relay.count = 0
    yield installation
    empty(installation.engine)


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The URL of an empty RabbitMQ vhost."""
    name = f"test-{uuid4().hex}"
    yield rabbitmq.create_vhost(name)
    rabbitmq.delete_vhost(name)


@pytest.fixture
def app(bench: Bench) -> Flask:
    return bench.app


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; key and certificate in one file."""
    file: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{file}.key", "-out", str(file)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    file.write_text(file.read_text() + Path(f"{file}.key").read_text())
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """For a server with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
