"""RabbitMQ's own figures beside SQL's: from a real one, and from servers that misbehave in every way."""

import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient

from flaskapp import config, create_app
from flaskapp.broker import management_http, topology, transports
from flaskapp.broker.management import Management, View
from flaskapp.errors import BadSetting
from flaskapp.extensions import db
from tests.helpers import wait_until
from tests.integration import management_servers as servers
from tests.integration.management_servers import ACCOUNT, GOOD, NODE, QUEUE, SECRET, always, good, raw, serving
from tests.integration.windows_fixtures import Site
from tests.services import RabbitMQ

MakeSite = Callable[[servers.Answer | str], Site]


@pytest.fixture
def site_with(tmp_path: Path) -> Iterator[MakeSite]:
    """A site whose management API is that server, or at that address."""
    with ExitStack() as stack:

        def make(server: servers.Answer | str, **more: str) -> Site:
            url = server if isinstance(server, str) else stack.enter_context(serving(server))
            environment = {"INSTANCE_PATH": str(tmp_path), "RABBITMQ_MANAGEMENT_URL": url, **more}
            app = create_app(config.from_environment(environment))
            app.extensions["celery"].relay.nudge = lambda: None
            with app.app_context():
                db.create_all()
                stack.callback(db.engine.dispose)
            return Site(app)

        yield make


def view_of(site: Site) -> View:
    """Once the first look has ended."""
    management: Management = site.app.extensions["management"]
    return wait_until(lambda: management._tried > 0 and management.view(), 20, "the first look ended")


def looked(site: Site) -> View:
    site.app.extensions["management"].view(patience=0)
    return view_of(site)


def hidden(text: str) -> bool:
    """No trace of the password in any spelling."""
    basic = management_http.Address.of(f"http://{ACCOUNT}:{servers._ESCAPED}@x").basic
    return all(word not in text and word not in unquote(text) for word in (SECRET, servers._ESCAPED, basic, "s3cret"))


# --- a broker that is well --------------------------------------------------------------------------------


def test_the_page_shows_both_views_side_by_side(site_with: MakeSite) -> None:
    site = site_with(good())
    site.job("waiting")
    page = site.signed_in("olga", "operator").get("/queues").text

    row = page[page.index('id="queue-default"') : page.index('id="queue-mail"')]
    assert re.search(r"<b>1</b>\s*<span class=\"state-waiting\">", row)
    assert "<b>41</b><span>" in row
    assert "<b>7</b><span>" in row
    assert "12.5/s in, 3/s out" in row
    assert "RabbitMQ 3.10.8" in page
    assert "166 MB of 512 MB memory" in page
    assert "RabbitMQ has no such queue" in page[page.index('id="queue-mail"') :]


def test_alarms_of_nodes_and_ill_queues_are_told(site_with: MakeSite) -> None:
    nodes = [NODE | {"mem_alarm": True}, NODE | {"name": "two@here", "disk_free_alarm": True}]
    nodes.append({"name": "three@here", "running": False})
    site = site_with(good(GOOD | {"/api/nodes": nodes, "/api/queues": [QUEUE | {"state": "down"}]}))
    alarms = looked(site).alarms

    assert [re.split(r"[.:]", alarm)[0] for alarm in alarms] == [
        "Memory alarm on rabbit@here",
        "Disk alarm on two@here",
        "The node three@here is down",
        "The queue default is down",
    ]
    page = site.signed_in("olga", "operator").get("/queues").text
    assert all(alarm in page for alarm in alarms)
    assert "no alarm" not in page


def test_hundreds_of_ill_queues_do_not_hide_the_page(site_with: MakeSite) -> None:
    rows = [{"name": f"q{number}", "state": "down"} for number in range(400)]
    alarms = looked(site_with(good(GOOD | {"/api/queues": rows}))).alarms

    assert (len(alarms), alarms[-1]) == (11, "390 more queues are ill.")


def test_the_api_shows_both_views(site_with: MakeSite) -> None:
    site = site_with(good())
    answer = site.script().get("/queues").json

    assert answer["items"][0]["broker"] | {"name": "default"} == {
        **{"name": "default", "ready": 41, "unacked": 7, "consumers": 2, "state": "running", "kind": "quorum"},
        **{"publish_per_second": 12.5, "ack_per_second": 3},
    }
    assert (answer["broker"]["version"], answer["broker"]["trouble"], answer["broker"]["alarms"]) == (
        "3.10.8",
        None,
        [],
    )
    assert answer["broker"]["age_seconds"] < 5


def test_an_account_that_may_not_see_nodes_still_shows_queues(site_with: MakeSite) -> None:
    site = site_with(good({name: page for name, page in GOOD.items() if name != "/api/nodes"}))
    view = looked(site)

    assert view.figures is not None
    assert (view.figures.nodes, view.trouble) == (None, "")
    assert "may not see nodes" in site.signed_in().get("/queues").text


def test_only_operators_see_the_way_to_the_brokers_pages(site_with: MakeSite) -> None:
    site = site_with(good(), BROKER_URL="amqp://u:p@127.0.0.1:1/my%2Fhost", RABBITMQ_UI_URL="https://mq.example.org/x/")
    looked(site)

    assert 'href="https://mq.example.org/x/#/queues/my%2Fhost/default"' in operator_page(site)
    assert "mq.example.org" not in site.signed_in("vera").get("/queues").text


def operator_page(site: Site) -> str:
    return site.signed_in("olga", "operator").get("/queues").text


def test_without_the_setting_the_page_is_sqls_alone(site: Site) -> None:
    assert "RabbitMQ" not in operator_page(site)
    answer = site.script().get("/queues").json
    assert (answer["broker"], answer["items"][0]["broker"]) == (None, None)


def test_a_page_within_seconds_asks_nobody(site_with: MakeSite) -> None:
    asked = []

    def answer(line, request, ended):
        asked.append(request.split(" ")[1].split("?")[0])
        good()(line, request, ended)

    site = site_with(answer)
    looked(site)
    for _ in range(5):
        operator_page(site)

    assert asked == ["/api/overview", "/api/nodes", "/api/queues/%2F"]


# --- a broker that is not ---------------------------------------------------------------------------------

NOBODY = "http://a:s3cret@127.0.0.1:9"
BROKEN: dict[str, tuple[servers.Answer | str, str]] = {
    "nobody listens": (NOBODY, "nobody listens there"),
    "silence": (servers.silent, "it does not answer within"),
    "a byte now and then": (servers.trickling, "it does not answer within"),
    "endless": (servers.endless, "its answer is larger than 1 MB"),
    "two megabytes": (always('{"rabbitmq_version": "' + "x" * 2_000_000 + '"}'), "its answer is larger than 1 MB"),
    "a refused account": (servers.refusing_aloud, "it refuses the account of RABBITMQ_MANAGEMENT_URL (401)"),
    "a forbidden account": (always("{}", "403 Forbidden"), "it needs the tag `monitoring` (403)"),
    "an error": (always("<h1>boom</h1>", "500 Oops"), "it answers with status 500"),
    "elsewhere": (always("", "302 Found\r\nLocation: http://127.0.0.1:1/"), "it answers with status 302"),
    "no JSON": (always("<html>"), "it answers nonsense"),
    "other JSON": (always('"text"'), "it answers nonsense"),
    "half of it": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[1"), "it answers nonsense"),
    "a deep list": (always("[" * 100_000), "it answers nonsense"),
    "a long number": (always("9" * 10_000), "it answers nonsense"),
    "no number": (always("NaN"), "it answers nonsense"),
    "no text": (always(b"\xff\xfe\x00"), "it answers nonsense"),
    "no HTTP": (raw(b"AMQP\x00\x00\x09\x01"), "it answers nonsense"),
    "another virtual host": (good({"/api/overview": {}, "/api/nodes": []}), "it has no such virtual host (404)"),
}


@pytest.mark.parametrize(("server", "trouble"), BROKEN.values(), ids=BROKEN)
def test_the_page_says_at_once_what_is_wrong_and_shows_sql(
    site_with: MakeSite,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    server: servers.Answer | str,
    trouble: str,
) -> None:
    monkeypatch.setattr("flaskapp.broker.management.WHOLE_SECONDS", 1.5)
    caplog.set_level(logging.DEBUG)
    site = site_with(server)
    site.job("waiting")
    operator, script = site.signed_in("olga", "operator"), site.script()
    # The first page of all, and one that knows what is wrong.
    first, seconds = timed(operator)
    assert seconds < 1
    looked(site)
    second, seconds = timed(operator)
    assert seconds < 1

    assert trouble in second
    assert '<a class="sum-term" href="/jobs?queue=default&amp;state=waiting"><b>1</b>' in second
    answer = script.get("/queues")
    assert trouble in answer.json["broker"]["trouble"]
    assert all(hidden(text) for text in (first, second, answer.text, caplog.text))


def timed(browser: FlaskClient) -> tuple[str, float]:
    begun = time.monotonic()
    answer = browser.get("/queues")
    assert answer.status_code == 200
    return answer.text, time.monotonic() - begun


def test_a_server_that_repeats_the_password_is_not_repeated(
    site_with: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = site_with(servers.echoing)
    looked(site)

    page, answer = operator_page(site), site.script().get("/queues")
    assert "<b>41</b>" in page
    assert hidden(page)
    assert hidden(json.dumps(answer.json))
    assert hidden(caplog.text)


def test_fields_of_the_wrong_kind_count_as_missing(site_with: MakeSite) -> None:
    wrong = {"name": "default", "messages_ready": "many", "messages_unacknowledged": -1, "consumers": True}
    wrong |= {"state": ["<b>"], "type": "x" * 500, "message_stats": [1]}
    rows = [wrong, 7, None, {"name": {"a": 1}}, {"name": "mail", "messages_ready": 10**300}]
    site = site_with(good(GOOD | {"/api/queues": rows, "/api/nodes": [{"mem_used": "x"}, 3], "/api/overview": []}))
    figures = looked(site).figures

    assert figures is not None
    assert figures.queues["default"] == (None,) * 7
    assert figures.queues["mail"] == (None,) * 7
    assert operator_page(site)


def test_only_a_good_certificate_is_given_the_account(
    site_with: MakeSite, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(line: socket.socket, request: str, ended: threading.Event) -> None:
        asked.append(request)
        good()(line, request, ended)

    with serving(answer, tls) as url:
        assert "its certificate is not accepted" in looked(site_with(url)).trouble
        assert not any(asked)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert looked(site_with(url)).trouble == ""


def test_a_server_that_trickles_under_tls_is_left_in_time(
    site_with: MakeSite, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flaskapp.broker.management.WHOLE_SECONDS", 1.5)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(servers.trickling, tls) as url:
        assert "does not answer within" in looked(site_with(url)).trouble


def test_a_server_that_is_silent_before_its_certificate_is_left_in_time(
    site_with: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flaskapp.broker.management.WHOLE_SECONDS", 1.5)
    with serving(servers.silent) as url:
        assert "does not answer within" in looked(site_with(url.replace("http:", "https:"))).trouble


def test_what_was_read_stays_with_its_age_when_the_broker_goes_away(site_with: MakeSite) -> None:
    away = False

    def answer(line, request, ended):
        always("", "503 Away")(line, request, ended) if away else good()(line, request, ended)

    site = site_with(answer)
    looked(site)
    away = True
    management: Management = site.app.extensions["management"]
    management._tried = management._read = time.monotonic() - 40
    wait_until(lambda: management.view().trouble, 10, "the trouble is known")

    page = operator_page(site)
    assert re.search(r"RabbitMQ's own figures are 4\d s old: it answers with status 503\.", page)
    assert "<b>41</b>" in page
    away = False
    management._tried = time.monotonic() - 40
    wait_until(lambda: not management.view().trouble, 10, "it answers again")


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("RABBITMQ_MANAGEMENT_URL", url)
            for url in ("http://localhost:15672", "ftp://a:s3cret@h", "http://a:s3cret")
        ),
        *(("RABBITMQ_MANAGEMENT_URL", url) for url in ("http://a:s3/cret@h", "http://a:s3cret@h:port", "a:s3cret@h")),
        *(
            ("RABBITMQ_UI_URL", url)
            for url in ("http://a:s3cret@h", "javascript:alert(1)", "//h", "http://h/?q=s3cret")
        ),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name) as refused:
        config.from_environment({"INSTANCE_PATH": str(tmp_path), name: value})
    assert "s3" not in str(refused.value)


def test_the_pages_of_the_broker_are_where_its_api_is_unless_told(tmp_path: Path) -> None:
    url = "http://a:s3cret@[::1]:15672/prefix/"
    settings = config.from_environment({"INSTANCE_PATH": str(tmp_path), "RABBITMQ_MANAGEMENT_URL": url})

    assert settings.rabbitmq_ui_url == "http://[::1]:15672/prefix"
    assert "s3cret" not in repr(settings)


# --- a real one -------------------------------------------------------------------------------------------


def has_no_alarm(rabbitmq: RabbitMQ) -> bool:
    try:
        return rabbitmq.api("GET", "/health/checks/alarms") is not None
    except HTTPError:
        return False


def test_the_memory_alarm_of_a_real_one_is_told(rabbitmq: RabbitMQ, site_with: MakeSite) -> None:
    site = site_with(rabbitmq.management_url)
    management: Management = site.app.extensions["management"]
    rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "20MB")
    try:
        alarms = wait_until(lambda: management.view().alarms, 30, "the alarm is told")
        assert alarms == [
            "Memory alarm on offload@localhost: the broker takes no messages. Work waits in SQL meanwhile."
        ]
        assert alarms[0] in operator_page(site)
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        # The next test may publish.
        wait_until(lambda: has_no_alarm(rabbitmq), 30, "the alarm is over")


def test_a_real_one_tells_what_its_account_lacks(rabbitmq: RabbitMQ, site_with: MakeSite) -> None:
    rabbitmq.create_vhost("closed")
    rabbitmq.api("DELETE", f"/permissions/closed/{rabbitmq.monitoring_name}")
    closed = site_with(rabbitmq.management_url, BROKER_URL=rabbitmq.url_of("closed"))
    nowhere = site_with(rabbitmq.management_url, BROKER_URL=rabbitmq.url_of("nowhere"))
    wrong = site_with(rabbitmq.management_url.replace(rabbitmq.monitoring_password, "wrong"))

    assert "may not look at this virtual host" in looked(closed).trouble
    assert "no such virtual host" in looked(nowhere).trouble
    assert "refuses the account" in looked(wrong).trouble


def test_a_real_rabbitmq_is_read_by_an_account_that_may_touch_nothing(rabbitmq: RabbitMQ, site_with: MakeSite) -> None:
    broker_url = rabbitmq.create_vhost("looked at")
    with transports.connection(broker_url) as connection:
        channel = connection.channel()
        topology.declare(channel)
        for _ in range(3):
            connection.SimpleQueue(topology.queue("mail"), channel=channel).put({"x": 1})
    site = site_with(rabbitmq.management_url, BROKER_URL=broker_url)
    management: Management = site.app.extensions["management"]

    def counted() -> View | None:
        view = management.view()
        mail = view.queue("mail")
        return view if mail and mail.ready == 3 else None

    view = wait_until(counted, 30, "RabbitMQ has counted three messages")
    mail = view.queue("mail")
    assert mail is not None
    assert (mail.unacked, mail.consumers, mail.state, mail.kind) == (0, 0, "running", "quorum")
    assert view.figures is not None
    assert view.figures.version == rabbitmq.api("GET", "/overview")["rabbitmq_version"]  # type: ignore[index]
    assert set(view.figures.queues) == {"default", "uploads", "mail", "query", "offload.dead"}
    (node,) = view.figures.nodes or ()
    assert (node.is_running, node.alarms, bool(node.memory_limit)) == (True, [], True)
    assert (view.trouble, view.alarms) == ("", [])
    assert f"{rabbitmq.ui_url}/#/queues/looked%20at/mail" in operator_page(site)
    assert rabbitmq.monitoring_password not in operator_page(site)
