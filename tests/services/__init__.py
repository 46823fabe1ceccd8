"""Private RabbitMQ, PostgreSQL, Redis and MariaDB on free loopback ports, found or brought by itself.

    with rabbitmq(folder) as broker, postgresql(folder) as database: …

Ends only what it started. `python -m tests.services` runs them for a person.
"""

from tests.services.finder import find_chromium
from tests.services.mariadb_server import MariaDB, mariadb
from tests.services.postgresql_server import PostgreSQL, postgresql
from tests.services.processes import ServiceFailed, ServiceMissing, free_port, wait_until
from tests.services.rabbitmq_server import RabbitMQ, rabbitmq
from tests.services.redis_server import Redis, redis

__all__ = [
    "MariaDB",
    "PostgreSQL",
    "RabbitMQ",
    "Redis",
    "ServiceFailed",
    "ServiceMissing",
    "find_chromium",
    "free_port",
    "mariadb",
    "postgresql",
    "rabbitmq",
    "redis",
    "wait_until",
]
