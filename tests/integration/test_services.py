"""The private services really serve, survive what fault tests do to them, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pika
import psycopg
import pymysql
import pytest
import redis as redis_client

from tests import services
from tests.services import PostgreSQL, RabbitMQ, Redis, ServiceMissing, base, debian, finder, fixtures, wait_until
from tests.services.processes import Program, ServiceFailed, family, running_processes

PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


def channel_to(url: str) -> pika.adapters.blocking_connection.BlockingChannel:
    return pika.BlockingConnection(pika.URLParameters(url)).channel()


def alive(pids: set[int]) -> set[int]:
    return pids & {pid for pid, _, _ in running_processes()}


# --- RabbitMQ ---------------------------------------------------------------------------------------


def test_a_vhost_of_ones_own_carries_messages(rabbitmq: RabbitMQ) -> None:
    channel = channel_to(rabbitmq.create_vhost("a name/with signs"))
    channel.queue_declare("letters", durable=True)
    channel.basic_publish("", "letters", b"hello")

    assert channel.basic_get("letters", auto_ack=True)[2] == b"hello"
    channel.connection.close()


def test_the_management_api_answers(rabbitmq: RabbitMQ) -> None:
    overview = rabbitmq.api("GET", "/overview")

    assert isinstance(overview, dict)
    assert tuple(map(int, overview["rabbitmq_version"].split(".")[:2])) >= (3, 10)


def test_rabbitmq_listens_on_loopback_only(rabbitmq: RabbitMQ) -> None:
    assert listening_addresses(rabbitmq.pid) == {"127.0.0.1"}


def test_a_killed_broker_keeps_the_messages_of_a_durable_queue(tmp_path: Path) -> None:
    with services.rabbitmq(tmp_path) as broker:
        url = broker.create_vhost("fault")
        channel = channel_to(url)
        channel.confirm_delivery()
        channel.queue_declare("letters", durable=True)
        channel.basic_publish("", "letters", b"kept", PERSISTENT)
        before = family(broker.pid)

        broker.kill()
        assert not alive(before)
        broker.start()

        assert channel_to(url).basic_get("letters")[2] == b"kept"
        everything = family(broker.pid) | family(broker._epmd.pid)
    assert not alive(everything)


def test_a_frozen_broker_answers_again_once_resumed(rabbitmq: RabbitMQ) -> None:
    rabbitmq.freeze()
    try:
        assert not rabbitmq._is_ready()
    finally:
        rabbitmq.resume()
    wait_until(rabbitmq._is_ready, 10, "the broker answers again")


# --- PostgreSQL and Redis ---------------------------------------------------------------------------


def test_postgresql_gives_a_database_of_ones_own(postgresql: PostgreSQL) -> None:
    url = postgresql.create_database("of its own")

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("of its own",)
    postgresql.drop_database("of its own")


def test_a_database_can_be_a_copy_of_another(postgresql: PostgreSQL) -> None:
    with psycopg.connect(postgresql.create_database("pattern")) as connection:
        connection.execute("CREATE TABLE seen ()")

    with psycopg.connect(postgresql.create_database("copy", template="pattern")) as connection:
        assert connection.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    postgresql.drop_database("copy")
    postgresql.drop_database("pattern")


def test_killed_postgresql_keeps_what_was_committed(tmp_path: Path) -> None:
    with services.postgresql(tmp_path) as database:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        before = family(database.pid)

        database.kill()
        assert not alive(before)
        database.start()

        with psycopg.connect(database.url) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
        everything = family(database.pid)
    assert not alive(everything)


def test_a_mariadb_that_starts_touches_no_temporary_table_of_another(tmp_path: Path) -> None:
    """It deletes what lies in the folder for temporary tables."""
    with (
        services.mariadb(tmp_path / "own") as own,
        pymysql.connect(host="127.0.0.1", port=own.port, user="root") as boss,
    ):
        cursor = boss.cursor()
        cursor.execute("SELECT @@tmpdir")
        assert cursor.fetchone() == (str(own.data),)


def test_a_wiped_service_begins_from_nothing(tmp_path: Path) -> None:
    with services.redis(tmp_path) as redis:
        redis_client.Redis.from_url(redis.url).set("name", "value")

        redis.wipe()
        redis.start()

        assert redis_client.Redis.from_url(redis.url).get("name") is None


def test_killed_redis_keeps_what_it_confirmed(redis: Redis) -> None:
    redis_client.Redis.from_url(redis.url).set("name", "value")

    redis.kill()
    redis.start()

    assert redis_client.Redis.from_url(redis.url).get("name") == b"value"


# --- what nobody should notice ----------------------------------------------------------------------


def test_a_killed_test_run_leaves_no_service(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from tests import services
        with services.redis(Path(sys.argv[1])) as redis:
            print(redis.pid, flush=True)
            time.sleep(60)
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), tmp_path], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    service = int(run.stdout.readline())

    run.kill()
    run.wait()
    run.stdout.close()

    wait_until(lambda: not alive({service}), 10, "the service ends with its run")


def test_a_program_that_ends_at_once_tells_its_last_words(tmp_path: Path) -> None:
    program = Program(["sh", "-c", "echo no luck; exit 3"], tmp_path / "log")

    with pytest.raises(ServiceFailed, match="no luck"):
        program.start(lambda: False)


def test_a_helper_that_outlives_its_program_is_ended_too(tmp_path: Path) -> None:
    program = Program(["sh", "-c", "(trap '' TERM; sleep 60) & wait"], tmp_path / "log")
    program.start(lambda: True)
    assert program.pid
    wait_until(lambda: len(family(program.pid or 0)) > 1, 5, "the helper runs")
    everything = family(program.pid)

    program.stop()

    assert not alive(everything)


def test_a_folder_in_use_is_refused(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SOMEBODY_MAY_BE_STOPPING_SECONDS", 0)

    with pytest.raises(ServiceFailed, match="is in use by services that run already"):
        Redis(redis.folder).start()


def test_services_started_for_a_person_stop_on_ctrl_c(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.services"],
        env={**os.environ, "INSTANCE_PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    printed = []
    for line in iter(run.stdout.readline, ""):
        printed.append(line)
        if line.startswith("Ctrl-C"):
            break
    relatives = family(run.pid)
    assert "BROKER_URL=amqp://" in "".join(printed)

    os.killpg(run.pid, signal.SIGINT)

    assert run.wait(30) == 0
    run.stdout.close()
    assert not alive(relatives)


# --- finding ----------------------------------------------------------------------------------------


def test_a_program_that_cannot_be_had_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "can_install", lambda: False)
    wanted = finder.Wanted("Nosuch", lambda root: None, ["nosuch-server"])

    with pytest.raises(ServiceMissing) as caught:
        finder.find(wanted)

    assert str(caught.value) == (
        "Nosuch is not on this machine: install it, e.g. sudo apt-get install --no-install-recommends nosuch-server."
    )


def test_what_was_half_unpacked_is_never_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unpack(target: Path) -> None:
        (target / "program").touch()
        raise subprocess.CalledProcessError(1, "dpkg", output="disk full\n")

    def look(root: Path) -> Path | None:
        return root / "program" if (root / "program").exists() else None

    monkeypatch.setattr(finder, "UNPACKED", tmp_path)
    monkeypatch.setattr(debian, "can_install", lambda: False)

    for _ in range(2):
        with pytest.raises(ServiceMissing, match="disk full"):
            finder.find(finder.Wanted("Half", look, ["half"], unpack))


def test_an_old_rabbitmq_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/rabbitmq"
    for name in ("bin", "lib/rabbitmq_server-3.9.13"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/rabbitmq-env").touch()

    assert finder._look_for_rabbitmq(tmp_path) is None


def test_the_policy_that_keeps_services_from_starting_is_removed_again(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"

    with debian.nothing_is_started(policy):
        assert subprocess.run([policy]).returncode == 101

    assert not policy.exists()


def test_somebody_elses_policy_stays(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")

    with debian.nothing_is_started(policy):
        pass

    assert policy.read_text() == "theirs"


def test_a_missing_service_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="not here"):
        fixtures.do_without(ServiceMissing("not here"))


def test_a_missing_service_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="not here"):
        fixtures.do_without(ServiceMissing("not here"))


def listening_addresses(pid: int | None) -> set[str]:
    """The IPv4 addresses on which a process listens, from its table of sockets; IPv6 reads as `ipv6`."""
    sockets = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                address = words[1].split(":")[0]
                octets = [str(byte) for byte in reversed(bytes.fromhex(address))]
                found.add(".".join(octets) if table == "tcp" else "ipv6")
    return found
