"""An installation that sends to a real mail server, and short words for what tests do with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from flaskapp.extensions import Base, db
from flaskapp.mail import actions, queries
from flaskapp.mail.models import Message
from tests.helpers import Bench, empty, make_app, make_current, wait_until
from tests.mail_server import Inbox, Server


class Post:
    """Writes mail and looks at it."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench, self.server = bench, server

    @property
    def inbox(self) -> Inbox:
        return self.server.inbox

    def set(self, **settings: Any) -> None:
        self.bench.app.config["SETTINGS"] = replace(self.bench.app.config["SETTINGS"], **settings)

    def write(self, *to: str, **more: Any) -> str:
        with self.bench.app.app_context():
            message = actions.write(to, more.pop("subject", "Hello"), more.pop("text", "Dear reader\n"), **more)
            message_id = message.id
            db.session.commit()
        return message_id

    def send(self, *to: str, **more: Any) -> dict[str, tuple[str, str | None]]:
        message_id = self.write(*to, **more)
        self.bench.run()
        return self.fates(message_id)

    def fates(self, message_id: str) -> dict[str, tuple[str, str | None]]:
        with self.bench.session() as session:
            return {one.address: (one.state, one.reply) for one in queries.recipients(session, message_id)}

    def states(self, message_id: str) -> list[str]:
        return [state for state, _ in self.fates(message_id).values()]

    def until(self, message_id: str, *states: str) -> None:
        """Let jobs run until the recipients are in these states."""

        def there() -> bool:
            self.bench.run()
            return self.states(message_id) == list(states)

        wait_until(there, 20, f"{states}; {self.fates(message_id)}")

    def act(self, verb: Callable[..., Any], message_id: str, *more: Any) -> Any:
        with self.bench.app.app_context():
            answer = verb(db.session(), db.session.get_one(Message, message_id), *more)
            db.session.commit()
        return answer

    def change(self, message_id: str, **values: Any) -> None:
        with self.bench.session() as session, session.begin():
            session.execute(update(Message).where(Message.id == message_id).values(**values))

    def forget(self) -> None:
        with self.bench.engine.begin() as connection:
            for mapper in Base.registry.mappers:
                if mapper.class_.__module__ == "flaskapp.mail.models":
                    connection.execute(delete(mapper.class_))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def mail_bench(database: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("instance")
    settings = {"MAIL_URL": server.url, "MAIL_RETRY_SECONDS": "0.2", "MAIL_TIMEOUT_SECONDS": "5"}
    bench = Bench(make_app(database, f"folder://{folder}/broker", folder, **settings))
    yield bench
    bench.close()


@pytest.fixture
def post(mail_bench: Bench, server: Server) -> Iterator[Post]:
    make_current(mail_bench.app)
    usual = mail_bench.app.config["SETTINGS"]
    server.inbox.__init__()  # type: ignore[misc]
    yield Post(mail_bench, server)
    mail_bench.app.config["SETTINGS"] = usual
    empty(mail_bench.engine)
    Post(mail_bench, server).forget()
