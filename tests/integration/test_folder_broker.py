"""The embedded broker with real processes on a real folder: what it delivers, to whom, how often.

Promises: each test states one fact about `folder://`.
Does not start Celery: test_folder_celery.py does.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from urllib.parse import quote

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError

from flaskapp.broker.folder import owners, register
from flaskapp.broker.folder.exchanges import Exchanges

register()
fork = multiprocessing.get_context("fork")

WORK = Queue("work", Exchange("jobs", "direct"), routing_key="work")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"folder://{tmp_path}/broker"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with Connection(url) as connection:
        yield connection


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.005)


def publish(connection: Connection, *bodies: object, queue: Queue = WORK, **options: object) -> None:
    with connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options)


def receive(connection: Connection, queue: Queue = WORK, no_ack: bool = False, seconds: float = 10):
    """The next message, neither acknowledged nor rejected yet."""
    received = []
    consumer = connection.Consumer([queue], on_message=received.append, no_ack=no_ack, prefetch_count=1)
    with consumer:
        end = time.monotonic() + seconds
        while not received:
            connection.drain_events(timeout=max(0.01, end - time.monotonic()))
    return received[0]


def bodies_left(connection: Connection, queue: Queue = WORK) -> list[object]:
    bodies = []
    bound = queue(connection.default_channel)
    bound.declare()
    while message := bound.get(no_ack=True):
        bodies.append(message.payload)
    return bodies


def run(*processes: multiprocessing.Process) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


# What producers, consumers and binders do in processes of their own


def produce(url: str, producer: int, count: int) -> None:
    with Connection(url) as connection:
        publish(connection, *({"key": f"{producer}-{n}", "filler": "x" * 20_000} for n in range(count)))


def consume_until(url: str, total: int, seen: Path) -> None:
    with Connection(url) as connection, open(seen / str(os.getpid()), "a") as notes:

        def take(message) -> None:
            notes.write(message.payload["key"] + "\n")
            notes.flush()
            message.ack()

        with connection.Consumer([WORK], on_message=take, prefetch_count=4):
            while len(read_notes(seen)) < total:
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue


def read_notes(seen: Path) -> list[str]:
    return [line for file in seen.iterdir() for line in file.read_text().splitlines()]


def hold_one_message(url: str, holding: "multiprocessing.synchronize.Event", close: bool) -> None:
    connection = Connection(url)
    receive(connection)
    if close:
        connection.close()
    holding.set()
    if not close:
        signal.pause()


def bind_many(url: str, prefix: str) -> None:
    with Connection(url) as connection:
        for n in range(20):
            Queue(f"{prefix}{n}", Exchange("shared", "fanout"))(connection.default_channel).declare()


def declare_exclusive(url: str) -> None:
    with Connection(url) as connection:
        reply = Queue("reply", Exchange("replies", "direct"), routing_key="me", exclusive=True)
        reply(connection.default_channel).declare()
        publish(connection, "an answer nobody reads", queue=reply)


def test_three_producers_and_three_consumers_lose_nothing_and_double_nothing(url: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    producers = [fork.Process(target=produce, args=(url, n, 100)) for n in range(3)]
    consumers = [fork.Process(target=consume_until, args=(url, 300, seen)) for _ in range(3)]
    run(*consumers, *producers)
    assert sorted(read_notes(seen)) == sorted(f"{p}-{n}" for p in range(3) for n in range(100))


def test_consumers_in_several_threads_share_the_messages(url: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    produce(url, 0, 100)
    threads = [threading.Thread(target=consume_until, args=(url, 100, seen)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(read_notes(seen)) == sorted(f"0-{n}" for n in range(100))


def test_a_killed_consumers_message_comes_back_as_redelivered(url: str, connection: Connection) -> None:
    publish(connection, "precious")
    holding = fork.Event()
    consumer = fork.Process(target=hold_one_message, args=(url, holding, False))
    consumer.start()
    assert holding.wait(20)
    os.kill(consumer.pid, signal.SIGKILL)
    message = receive(connection)
    consumer.join()
    assert (message.payload, message.delivery_info["redelivered"]) == ("precious", True)


def test_a_living_consumers_message_stays_with_it(connection: Connection, url: str) -> None:
    publish(connection, "mine")
    receive(connection)
    with Connection(url) as another, pytest.raises(TimeoutError):
        receive(another, seconds=0.3)


def test_a_first_delivery_is_not_marked_as_redelivered(connection: Connection) -> None:
    publish(connection, "new")
    assert receive(connection).delivery_info["redelivered"] is False


def test_a_clean_close_gives_messages_back_at_once(url: str, connection: Connection) -> None:
    publish(connection, "unfinished")
    run(fork.Process(target=hold_one_message, args=(url, fork.Event(), True)))
    assert WORK(connection.default_channel).get().payload == "unfinished"


def test_a_forked_child_that_closes_does_not_give_back_its_parents_messages(connection: Connection) -> None:
    publish(connection, "the parent's")
    receive(connection)
    run(fork.Process(target=connection.close))
    assert connection.default_channel.claimed_count("work") == 1


def test_the_more_urgent_message_comes_first_and_then_the_older_one(connection: Connection) -> None:
    for body, priority in (("old", 0), ("urgent", 9), ("young", 0), ("middling", 5), ("urgent too", 9)):
        publish(connection, body, priority=priority)
    assert bodies_left(connection) == ["urgent", "urgent too", "middling", "old", "young"]


def test_a_requeued_message_returns_to_its_place_in_the_line(connection: Connection) -> None:
    publish(connection, "first", "second")
    receive(connection).reject(requeue=True)
    message = receive(connection)
    assert (message.payload, message.delivery_info["redelivered"]) == ("first", True)


def test_a_rejected_message_is_gone(connection: Connection) -> None:
    publish(connection, "unwanted")
    receive(connection).reject()
    channel = connection.default_channel
    assert (channel._size("work"), channel.claimed_count("work")) == (0, 0)


def test_an_acknowledged_message_is_gone(connection: Connection) -> None:
    publish(connection, "done")
    receive(connection).ack()
    channel = connection.default_channel
    assert (channel._size("work"), channel.claimed_count("work")) == (0, 0)


def test_ready_and_claimed_messages_are_counted_apart(connection: Connection) -> None:
    publish(connection, 1, 2, 3)
    receive(connection)
    channel = connection.default_channel
    assert (WORK(channel).queue_declare(passive=True).message_count, channel.claimed_count("work")) == (2, 1)


def test_an_ack_from_another_thread_lets_the_next_message_in_without_a_pause(url: str) -> None:
    with Connection(url, transport_options={"polling_interval": 30}) as connection:
        publish(connection, 1, 2)
        received = []
        with connection.Consumer([WORK], on_message=received.append, prefetch_count=1):
            connection.drain_events(timeout=5)
            threading.Timer(1.0, received[0].ack).start()
            connection.drain_events(timeout=20)
    assert [message.payload for message in received] == [1, 2]


def test_a_message_without_acknowledgement_is_gone_on_receipt(connection: Connection) -> None:
    publish(connection, "hello")
    receive(connection, no_ack=True)
    assert connection.default_channel.claimed_count("work") == 0


def test_a_topic_exchange_delivers_by_pattern(connection: Connection) -> None:
    topic = Exchange("events", "topic")
    mail, everything = Queue("mail", topic, "job.mail.*"), Queue("all", topic, "job.#")
    for queue in (mail, everything):
        queue(connection.default_channel).declare()
    with connection.Producer() as producer:
        for key in ("job.mail.sent", "job.query.run"):
            producer.publish(key, exchange=topic, routing_key=key)
    assert bodies_left(connection, mail) == ["job.mail.sent"]
    assert bodies_left(connection, everything) == ["job.mail.sent", "job.query.run"]


def test_a_topic_exchange_routes_for_a_producer_that_declared_nothing(url: str, connection: Connection) -> None:
    mail = Queue("mail", Exchange("events", "topic"), "job.mail.*")
    mail(connection.default_channel).declare()
    with Connection(url) as stranger, stranger.Producer() as producer:
        producer.publish("hello", exchange="events", routing_key="job.mail.sent")
    assert bodies_left(connection, mail) == ["hello"]


def test_a_fanout_exchange_delivers_to_every_queue(connection: Connection) -> None:
    news = Exchange("news", "fanout")
    queues = [Queue("left", news), Queue("right", news)]
    for queue in queues:
        queue(connection.default_channel).declare()
    publish(connection, "extra", queue=queues[0])
    assert [bodies_left(connection, queue) for queue in queues] == [["extra"], ["extra"]]


def test_an_unbound_queue_gets_nothing_more(connection: Connection) -> None:
    publish(connection, "before")
    WORK(connection.default_channel).unbind_from(WORK.exchange, "work")
    with connection.Producer() as producer:
        producer.publish("after", exchange="jobs", routing_key="work")
    assert connection.default_channel._size("work") == 1


def test_a_mandatory_message_without_a_queue_is_refused(connection: Connection) -> None:
    with connection.Producer() as producer, pytest.raises(ChannelError, match="NO_ROUTE"):
        producer.publish("lost", exchange="jobs", routing_key="nowhere", mandatory=True)


def test_an_exchange_cannot_change_its_type(connection: Connection) -> None:
    Exchange("jobs", "topic")(connection.default_channel).declare()
    with pytest.raises(ChannelError, match="exists as topic"):
        publish(connection, "misrouted")


def test_processes_that_bind_at_the_same_time_lose_no_binding(url: str, folder: Path) -> None:
    run(*(fork.Process(target=bind_many, args=(url, prefix)) for prefix in "abc"))
    bindings = json.loads((folder / "exchanges" / "shared.json").read_text())["bindings"]
    assert len(bindings) == 60


def test_a_child_forked_while_an_exchange_changes_keeps_nobody_out(folder: Path) -> None:
    """A worker's pool may start a child at any moment; it inherits the lock, and lives as long as the worker."""
    exchanges = Exchanges(str(folder))
    with exchanges._changing("jobs"):
        if (child := os.fork()) == 0:
            signal.pause()
    later = threading.Thread(target=lambda: exchanges.declare("jobs", "topic"), daemon=True)
    later.start()

    later.join(5)

    was_kept_out = later.is_alive()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not was_kept_out


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"properties": {}}', b"\xff\xfe"])
def test_a_damaged_file_is_set_aside_and_the_next_message_arrives(
    connection: Connection, folder: Path, damage: bytes
) -> None:
    publish(connection, "damaged", "intact")
    min((folder / "queues/work/ready").iterdir()).write_bytes(damage)
    assert receive(connection).payload == "intact"
    assert [file.read_bytes() for file in (folder / "bad").iterdir()] == [damage]


def test_a_body_that_cannot_be_decoded_is_set_aside(connection: Connection, folder: Path) -> None:
    publish(connection, "damaged", "intact")
    file = min((folder / "queues/work/ready").iterdir())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"body": "abc"}))
    assert receive(connection).payload == "intact"


def test_a_half_written_message_of_a_dead_producer_is_swept_away(connection: Connection, folder: Path) -> None:
    WORK(connection.default_channel).declare()
    draft = folder / "queues/work/writing/1.2.gone~0-1-1-1.2.gone"
    draft.write_bytes(b'{"bo')
    with pytest.raises(TimeoutError):
        receive(connection, seconds=0.05)
    assert not draft.exists()


def test_a_dead_process_takes_its_reply_queue_with_it(url: str, connection: Connection, folder: Path) -> None:
    run(fork.Process(target=declare_exclusive, args=(url,)))
    with pytest.raises(TimeoutError):
        receive(connection, seconds=0.05)
    assert not (folder / "queues/reply").exists()
    assert json.loads((folder / "exchanges/replies.json").read_text())["bindings"] == []


def test_a_living_process_keeps_its_reply_queue(url: str, connection: Connection, folder: Path) -> None:
    declare_exclusive(url)
    with pytest.raises(TimeoutError):
        receive(connection, seconds=0.05)
    assert (folder / "queues/reply").exists()


def test_a_purged_queue_keeps_its_claimed_messages(connection: Connection) -> None:
    publish(connection, 1, 2, 3)
    receive(connection)
    channel = connection.default_channel
    assert WORK(channel).purge() == 2
    assert (channel._size("work"), channel.claimed_count("work")) == (0, 1)


def test_a_deleted_queue_is_not_there_for_passive_declaration(connection: Connection) -> None:
    publish(connection, "late")
    WORK(connection.default_channel).delete()
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        WORK(connection.default_channel).queue_declare(passive=True)


def test_a_broker_whose_folder_is_removed_works_on(url: str, connection: Connection, folder: Path) -> None:
    publish(connection, "lost")
    folder.rename(folder.with_name("removed"))
    publish(connection, "kept")
    assert receive(connection).payload == "kept"


def test_bytes_travel_unchanged(connection: Connection) -> None:
    publish(connection, bytes(range(256)))
    assert receive(connection).payload == bytes(range(256))


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", ".hidden", "celery@host~1", "queue with spaces", "Größe"])
def test_any_queue_name_stays_inside_the_folder(connection: Connection, folder: Path, name: str) -> None:
    queue = Queue(name, Exchange("jobs", "direct"), routing_key=name)
    publish(connection, "safe", queue=queue)
    assert len(list((folder / "queues").iterdir())) == 1
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["broker"]
    assert bodies_left(connection, queue) == ["safe"]


def test_a_queue_name_that_is_too_long_is_refused_with_a_sentence(connection: Connection) -> None:
    with pytest.raises(ValueError, match="take 1 to 200 letters"):
        publish(connection, "x", queue=Queue("q" * 201, WORK.exchange, "x"))


@pytest.mark.parametrize("name", ["plain", "with space", "100%", "a+b", "Größe", "tilde~2", "semi;colon?#"])
def test_the_url_names_the_folder(tmp_path: Path, name: str) -> None:
    with Connection(f"folder://{quote(str(tmp_path / name))}") as connection:
        publish(connection, "x")
        with connection.clone() as clone:
            assert receive(clone).payload == "x"
    assert (tmp_path / name / "queues/work").is_dir()


@pytest.mark.parametrize("url", ["folder://", "folder:///", "folder://relative/path"])
def test_a_url_without_an_absolute_path_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="as in folder:///var/lib/offload/broker"):
        Connection(url).connect()


def test_a_folder_that_cannot_be_made_is_a_broker_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    connection = Connection(f"folder://{tmp_path}/file/broker")
    with pytest.raises(connection.connection_errors):
        connection.connect()


def test_files_are_synced_when_asked(url: str) -> None:
    with Connection(url, transport_options={"fsync": True}) as connection:
        publish(connection, "durable")
        assert receive(connection).payload == "durable"


def test_a_process_that_is_gone_is_not_alive_even_if_its_pid_is_used_again() -> None:
    pid, start, boot = owners.me().split(".")
    assert owners.is_alive(owners.me())
    assert not owners.is_alive(f"{pid}.{int(start) - 1}.{boot}")
    assert not owners.is_alive(f"{pid}.{start}.otherboo")


def test_without_proc_a_process_is_known_by_its_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_boot", lambda: "")
    child = fork.Process(target=int)
    child.start()
    child.join()
    assert owners.is_alive(f"{os.getpid()}.0.0")
    assert not owners.is_alive(f"{child.pid}.0.0")


def test_an_empty_queue_says_so(connection: Connection) -> None:
    WORK(connection.default_channel).declare()
    with pytest.raises(Empty):
        connection.SimpleQueue(WORK).get(block=False)
