"""Types of columns that several tables share."""

from sqlalchemy import LargeBinary, String, Text
from sqlalchemy.dialects import mysql

#: MariaDB's TEXT ends at 65,535 bytes.
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LongBytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
#: Celery's longest id; ids from callers and canvas are kept as they are.
JobId = String(155)
