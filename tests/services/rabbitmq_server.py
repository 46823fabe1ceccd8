"""A private RabbitMQ with management: own node, own epmd, own Erlang cookie, free loopback ports.

Promises an empty broker with the vhost "/" and one administrator; give each test run a vhost of its own.
Does not load the application's definitions: that is for the tests of those.
"""

import base64
import hashlib
import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from tests.services.base import Service, running
from tests.services.finder import find_rabbitmq
from tests.services.processes import LOCALHOST, Program, free_port

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
NOTHING = {"configure": "^$", "write": "^$", "read": "^$"}
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
load_definitions = {definitions}
loopback_users = none
disk_free_limit.absolute = 200MB
vm_memory_high_watermark.absolute = 512MB
consumer_timeout = 7200000
"""


class RabbitMQ(Service):
    user_name = "offload"
    #: May read every figure and touch nothing.
    monitoring_name = "offload-monitoring"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.password, self.monitoring_password = secrets.token_hex(8), secrets.token_hex(8)
        self.management_port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self._epmd: Program | None = None

    @property
    def url(self) -> str:
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        account = f"{self.user_name}:{self.password}"
        return f"amqp://{account}@{LOCALHOST}:{self.port}/{quote(vhost, safe='')}"

    @property
    def ui_url(self) -> str:
        return f"http://{LOCALHOST}:{self.management_port}"

    @property
    def management_url(self) -> str:
        """For RABBITMQ_MANAGEMENT_URL: with the account that looks."""
        return f"http://{self.monitoring_name}:{self.monitoring_password}@{LOCALHOST}:{self.management_port}"

    @property
    def definitions(self) -> dict[str, object]:
        return {
            "users": [
                _account(self.user_name, self.password, "administrator"),
                _account(self.monitoring_name, self.monitoring_password, "monitoring"),
            ],
            "vhosts": [{"name": "/"}],
            "permissions": [
                {"user": self.user_name, "vhost": "/", **EVERYTHING},
                {"user": self.monitoring_name, "vhost": "/", **NOTHING},
            ],
        }

    def create_vhost(self, name: str) -> str:
        """Make an empty vhost (or keep the one there is) and return its amqp URL."""
        vhost = quote(name, safe="")
        self.api("PUT", f"/vhosts/{vhost}", {})
        self.api("PUT", f"/permissions/{vhost}/{self.user_name}", EVERYTHING)
        # Without these, empty as they are, it may not even look.
        self.api("PUT", f"/permissions/{vhost}/{self.monitoring_name}", NOTHING)
        return self.url_of(name)

    def delete_vhost(self, name: str) -> None:
        # Its 35 queues go one by one, each with its fsyncs.
        self.api("DELETE", f"/vhosts/{quote(name, safe='')}", timeout=60)

    def api(self, method: str, path: str, body: object = None, timeout: float = 10) -> object:
        """Call the management API below /api; statistics there lag by about 5 s."""
        account = base64.b64encode(f"{self.user_name}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{LOCALHOST}:{self.management_port}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {account}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def ctl(self, *words: str) -> None:
        """Run rabbitmqctl on this node."""
        assert self.program is not None
        command = [find_rabbitmq() / "rabbitmqctl", *words]
        subprocess.run(command, env=self.program.environment, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        self._claim_folder()
        if self.program is None:
            self.program = self._prepare()
        # Our own epmd in the foreground: left to itself, Erlang starts one that outlives the broker.
        assert self._epmd is not None
        self._epmd.start(self._epmd_answers, seconds=10)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self._epmd:
            self._epmd.stop()

    def kill(self) -> None:
        super().kill()
        if self._epmd:
            self._epmd.kill()

    def _prepare(self) -> Program:
        scripts = find_rabbitmq()
        root = scripts.parents[3]
        configuration, plugins = self.folder / "rabbitmq.conf", self.folder / "enabled_plugins"
        definitions, nothing = self.folder / "definitions.json", self.folder / "rabbitmq-env.conf"
        definitions.write_text(json.dumps(self.definitions, indent=2))
        configuration.write_text(
            CONFIGURATION.format(port=self.port, management_port=self.management_port, definitions=definitions)
        )
        plugins.write_text("[rabbitmq_management].\n")
        nothing.touch()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "PATH": f"{root / 'usr/lib/erlang/bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": "offload@localhost",
            "RABBITMQ_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONF_ENV_FILE": str(nothing),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOCALHOST,
            # Without it the script stays as a shell around the broker, and our pid would be the shell's.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        epmd = next(iter(sorted(root.glob("usr/lib/erlang/erts-*/bin/epmd"))), "epmd")
        epmd_command = [epmd, "-port", str(self._epmd_port), "-address", LOCALHOST]
        self._epmd = Program(epmd_command, self.folder / "epmd.log", environment)
        return Program([scripts / "rabbitmq-server"], self.log, environment)

    def _is_ready(self) -> bool:
        if not self._answers(b"AMQP\x00\x00\x09\x01"):
            return False
        try:
            self.api("GET", "/whoami", timeout=1)
        except (OSError, urllib.error.HTTPError):
            return False
        return True

    def _epmd_answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOCALHOST, self._epmd_port)) == 0


def _account(name: str, password: str, tag: str) -> dict[str, str]:
    """By hash, as rabbitmq/definitions.json holds them."""
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tag,
    }


def rabbitmq(folder: Path) -> AbstractContextManager[RabbitMQ]:
    return running(RabbitMQ(folder))
