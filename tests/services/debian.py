"""Bringing Debian packages to this machine: installed as root, or unpacked without root.

Promises that no system service is started and that what it wrote to prevent that is removed again.
Does not decide what is needed: finder.py does.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str]) -> None:
    """apt-get install; raises CalledProcessError with its output when it fails twice."""
    with nothing_is_started():
        twice(_install, packages)


def _install(packages: Sequence[str]) -> None:
    run(["apt-get", "update", "-q"])
    options = ["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    run(["apt-get", "install", *options, *packages])


def unpack(packages: Sequence[str], target: Path) -> None:
    """Download packages and unpack them below `target`, with private lists and cache: needs no root."""
    apt = target / "apt"
    for part in ("lists/partial", "cache/archives/partial", "debs"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={apt / 'lists'}", "-o", f"Dir::Cache={apt / 'cache'}"]
    options += ["-o", "APT::Sandbox::User="]
    twice(run, ["apt-get", *options, "-q", "update"])
    twice(run, ["apt-get", *options, "-q", "download", *packages], apt / "debs")
    for deb in sorted((apt / "debs").glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(target)])
    shutil.rmtree(apt)


@contextmanager
def nothing_is_started(policy: Path = POLICY) -> Iterator[None]:
    """Debian starts a service on installing it unless policy-rc.d says no."""
    try:
        with policy.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield  # Somebody's own policy: it stays as it is.
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink()


def twice(action: Callable[..., None], *arguments: object) -> None:
    """Networks blink: one failure is tried again."""
    try:
        action(*arguments)
    except subprocess.CalledProcessError:
        action(*arguments)


def run(command: Sequence[str], folder: Path | None = None) -> None:
    subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
