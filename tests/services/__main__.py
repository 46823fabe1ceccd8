"""`make services`: RabbitMQ, PostgreSQL and Redis below instance/services, until Ctrl-C.

Prints their addresses and what to set to run Offload on them; stops them cleanly.
"""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tests.services import ServiceFailed, ServiceMissing, postgresql, rabbitmq, redis
from tests.services.base import Service
from tests.services.rabbitmq_server import RabbitMQ

INSTANCE = Path(os.environ.get("INSTANCE_PATH") or Path(__file__).parents[2] / "instance")
FOLDER = INSTANCE / "services"
KINDS = {"RabbitMQ": rabbitmq, "PostgreSQL": postgresql, "Redis": redis}


def main() -> int:
    _listen_to_signals()
    missing = False
    rows: list[tuple[str, str]] = []
    try:
        with ExitStack() as stack:
            for name, kind in KINDS.items():
                print(f"Starting {name} …", flush=True)
                try:
                    service: Service = stack.enter_context(kind(FOLDER / name.lower()))
                except (ServiceMissing, ServiceFailed) as reason:
                    print(reason, file=sys.stderr)
                    missing = True
                else:
                    rows += _rows(name, service)
            if not rows:
                return 1
            _print_table(rows)
            print("\nCtrl-C stops them.", flush=True)
            try:
                signal.pause()
            finally:
                print("Stopping …", flush=True)
    except KeyboardInterrupt:
        print("Stopped.")
    return 1 if missing else 0


def _rows(name: str, service: Service) -> list[tuple[str, str]]:
    rows = [(name, service.url)]
    if not service.keeps_data:
        rows.append(("  until it stops", "its data goes then: we are root, and its account may not enter the folder"))
    if isinstance(service, RabbitMQ):
        rows.append(("RabbitMQ's pages", f"{service.ui_url}/"))
        rows.append(("  sign in as", f"{service.user_name}, password {service.password}"))
        rows.append(("  or, to look", f"{service.monitoring_name}, password {service.monitoring_password}"))
        rows.append(("RabbitMQ's figures", service.management_url))
    return rows


def _print_table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    urls = dict(rows)
    settings = {
        "BROKER_URL": urls.get("RabbitMQ"),
        "RABBITMQ_MANAGEMENT_URL": urls.get("RabbitMQ's figures"),
        "DATABASE_URL": urls.get("PostgreSQL"),
    }
    words = [f"{name}={value}" for name, value in settings.items() if value]
    if words:
        print(f"\nTo run Offload on them:\n  {' '.join(words)} make up")


def _listen_to_signals() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # Once: a second Ctrl-C must not interrupt the stopping and leave a service behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
