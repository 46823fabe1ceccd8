"""What a hostile person would ask, as data: the tests run it on each database, /query/safety on the live one.

An attack is held off if it is refused; if it is bounded, an answer that keeps to the caps in time is as good. One that
is answered must show none of `never`.
"""

from dataclasses import dataclass

ALL = ("sqlite", "postgresql", "mariadb")
_SQLITE, _POSTGRESQL, _MARIADB = ("sqlite",), ("postgresql",), ("mariadb",)
_SERVERS = (*_POSTGRESQL, *_MARIADB)


@dataclass(frozen=True)
class Attack:
    name: str
    sql: str
    on: tuple[str, ...] = ALL
    #: An answer within the caps counts as held off too.
    bounded: bool = False
    #: It is answered, with NULL or nothing: there is nothing to see.
    empty: bool = False


#: Parts of what no answer may hold: how stored passwords begin.
NEVER = ("scrypt:", "pbkdf2:", "root:x:0:0")

ATTACKS = (
    # --- writing
    Attack("insert", "INSERT INTO effect (key, job_id, attempt, at) VALUES ('x', 'x', 1, '2026-01-01')"),
    Attack("update", "UPDATE job SET state = 'failed'"),
    Attack("delete", "DELETE FROM job"),
    Attack("drop a table", "DROP TABLE job"),
    Attack("create a table", "CREATE TABLE mine (a int)"),
    Attack("create a temporary table", "CREATE TEMPORARY TABLE mine (a int)"),
    Attack("create a view", "CREATE VIEW mine AS SELECT 1"),
    Attack("truncate", "TRUNCATE TABLE job", _SERVERS),
    Attack("grant rights", "GRANT ALL ON job TO PUBLIC", _POSTGRESQL),
    Attack("grant rights to oneself", "GRANT ALL ON *.* TO CURRENT_USER", _MARIADB),
    Attack("write in a WITH", "WITH gone AS (DELETE FROM job RETURNING *) SELECT * FROM gone"),
    Attack("write behind a WITH", "WITH a AS (SELECT 1) DELETE FROM job"),
    Attack("write while explaining", "EXPLAIN ANALYZE DELETE FROM job", _POSTGRESQL),
    Attack("write while analyzing", "ANALYZE DELETE FROM job", _MARIADB),
    Attack("explain a write", "EXPLAIN DELETE FROM job"),
    Attack("lock rows", "SELECT * FROM job FOR UPDATE"),
    Attack("select into a table", "SELECT * INTO mine FROM job", _POSTGRESQL),
    Attack("select into a file", "SELECT 1 INTO OUTFILE '/tmp/offload-attack'", _MARIADB),
    Attack("copy to a program", "COPY (SELECT 1) TO PROGRAM 'id'", _POSTGRESQL),
    Attack("replace", "REPLACE INTO job (id) VALUES ('x')", ("sqlite", "mariadb")),
    Attack("vacuum into a file", "VACUUM INTO '/tmp/offload-attack'", _SQLITE),
    Attack("number a sequence", "SELECT nextval('public.account_id_seq')", _POSTGRESQL),
    Attack("make a large object", "SELECT lo_create(0)", _POSTGRESQL),
    # --- two statements, and what hides them
    Attack("two statements", "SELECT 1; DELETE FROM job"),
    Attack("two selects", "SELECT 1; SELECT 2"),
    Attack("a second one behind a comment", "SELECT 1 /* ; */ ; -- \nDELETE FROM job"),
    Attack("a comment that runs", "SELECT 1 /*! ; DELETE FROM job */", _MARIADB),
    Attack("a block of statements", "BEGIN NOT ATOMIC DELETE FROM job; SELECT 1; END", _MARIADB),
    Attack("a block of code", "DO $$ BEGIN DELETE FROM job; END $$", _POSTGRESQL),
    Attack("out of the brackets", "SELECT 1) AS a; DELETE FROM job; SELECT * FROM (SELECT 1"),
    Attack("end the transaction", "COMMIT"),
    Attack("begin another one", "START TRANSACTION READ WRITE", _SERVERS),
    Attack("a prepared statement", "PREPARE p FROM 'DELETE FROM job'", _MARIADB),
    Attack("a statement at once", "EXECUTE IMMEDIATE 'DELETE FROM job'", _MARIADB),
    Attack("SQL in a text", "SELECT query_to_xml('SELECT * FROM pg_authid', true, true, '')", _POSTGRESQL),
    Attack("SQL in a text, in a list", "VALUES (query_to_xml('SELECT query FROM pg_stat_activity', true, true, '')::text), ('')", _POSTGRESQL),
    Attack("SQL in a text, for statistics", "SELECT * FROM ts_stat('SELECT to_tsvector(query) FROM pg_stat_activity')", _POSTGRESQL),
    Attack("SQL in a text, to rewrite it", "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')", _POSTGRESQL),
    # --- settings and roles
    Attack("a setting", "PRAGMA query_only = 0", _SQLITE),
    Attack("a setting as a table", "SELECT * FROM pragma_table_info('account')", _SQLITE),
    Attack("the list of databases", "SELECT * FROM pragma_database_list", _SQLITE),
    Attack("change a setting", "SET statement_timeout = 0", _POSTGRESQL),
    Attack("change a setting in a SELECT", "SELECT set_config('statement_timeout', '0', false)", _POSTGRESQL),
    Attack("change a setting by a column", "SELECT U&\"set\\005fconfig\"('statement_timeout', '0', false)", _POSTGRESQL),
    Attack("change a setting in a list", "VALUES (set_config('statement_timeout', '0', false)), ('')", _POSTGRESQL),
    Attack("change a setting between texts", "VALUES ('\"', set_config('statement_timeout', '0', false), '\"'), ('', '', '')", _POSTGRESQL),
    Attack("change a setting in an offset", "SELECT 1 OFFSET length(set_config('statement_timeout', '0', false))", _POSTGRESQL),
    Attack("change a setting in a window", "SELECT sum(n) OVER (ORDER BY n ROWS length(set_config('statement_timeout', '0', false)) PRECEDING) FROM generate_series(1, 2) n", _POSTGRESQL),
    Attack("change a setting for one statement", "SET STATEMENT max_statement_time = 0 FOR SELECT 1", _MARIADB),
    Attack("change a global setting", "SET GLOBAL max_connections = 1", _MARIADB),
    Attack("become somebody else", "SET ROLE postgres", _POSTGRESQL),
    Attack("become somebody in a SELECT", "SELECT set_config('role', 'postgres', false)", _POSTGRESQL),
    Attack("read the settings", "SELECT * FROM pg_settings", _POSTGRESQL),
    Attack("read one setting", "SELECT @@datadir", _MARIADB),
    Attack("read one setting", "SELECT current_setting('data_directory')", _POSTGRESQL),
    # --- reading what is not theirs
    Attack("accounts", "SELECT * FROM account"),
    Attack("accounts, by their place", "SELECT name, password_hash FROM main.account", _SQLITE),
    Attack("accounts, by their place", "SELECT name, password_hash FROM public.account", _POSTGRESQL),
    Attack("that there are accounts", "SELECT 1 FROM account"),
    Attack("tokens", "SELECT token_hash FROM token"),
    Attack("sign-ins", "SELECT * FROM sign_in"),
    Attack("the audit log", "SELECT * FROM audit_entry"),
    Attack("arguments of jobs", "SELECT args FROM job"),
    Attack("arguments, by their place", "SELECT args, kwargs, result FROM main.job", _SQLITE),
    Attack("arguments, by their place", "SELECT args, kwargs, result FROM public.job", _POSTGRESQL),
    Attack("how many there are", "SELECT count(*) FROM main.account", _SQLITE),
    Attack("through the name of a view", "WITH job AS (SELECT * FROM main.job) SELECT args FROM job", _SQLITE),
    Attack("through an alias", "SELECT * FROM (SELECT * FROM main.account) AS job", _SQLITE),
    Attack("in a condition", "SELECT 1 WHERE EXISTS (SELECT 1 FROM account WHERE name = 'admin')"),
    Attack("answers of others", "SELECT * FROM query_run"),
    Attack("the passes", "SELECT * FROM query_pass"),
    Attack("the passes, by their place", "SELECT * FROM public.query_pass", _POSTGRESQL),
    Attack("the list of tables", "SELECT * FROM sqlite_master", _SQLITE),
    Attack("the list of views", "SELECT sql FROM sqlite_temp_master", _SQLITE),
    Attack("pages of the file", "SELECT * FROM sqlite_dbpage", _SQLITE),
    Attack("what others ask", "SELECT * FROM pg_stat_activity", _POSTGRESQL),
    Attack("passwords of the server", "SELECT * FROM pg_authid", _POSTGRESQL),
    Attack("passwords of the server", "SELECT * FROM mysql.user", _MARIADB),
    Attack("what others ask", "SELECT * FROM information_schema.processlist", _MARIADB),
    Attack("what others ask, in odd letters", "SELECT * FROM ınformatıon_ſchema.processlist", _MARIADB),
    Attack("show what others ask", "SHOW PROCESSLIST", _MARIADB),
    Attack("the list of tables", "SELECT table_name FROM information_schema.tables", _SERVERS),
    Attack("tables, by their numbers", "SELECT n::regclass FROM generate_series(16384, 17000) n", _POSTGRESQL),
    Attack("tables, by the numbers of their types", "SELECT format_type(n::oid, NULL) FROM generate_series(16384, 17000) n", _POSTGRESQL),
    Attack("tables, by a row of the server's", "SELECT data_type FROM json_populate_record(NULL::pg_sequences, '{\"data_type\": 16384}')", _POSTGRESQL),
    Attack("other accounts, by their numbers", "SELECT n::oid::regrole FROM generate_series(1, 100) n", _POSTGRESQL),
    Attack("tables, as a type writes them", "SELECT regclassout(n) FROM generate_series(1259, 1262) n", _POSTGRESQL),
    Attack("tables, as a type reads them", "SELECT array_in('{1259}', 2205, -1)", _POSTGRESQL),
    Attack("accounts, as a type writes them", "SELECT regroleout(n) FROM generate_series(1, 100) n", _POSTGRESQL),
    Attack("that there is a table", "SELECT row_security_active('public.account')", _POSTGRESQL),
    Attack("types, by their numbers", "SELECT oidvectortypes('16384 16385')", _POSTGRESQL),
    # --- files, programs, other connections
    Attack("attach a file", "ATTACH DATABASE '/tmp/offload-attack' AS other", _SQLITE),
    Attack("load an extension", "SELECT load_extension('/tmp/evil')", _SQLITE),
    Attack("read a file", "SELECT readfile('/etc/passwd')", _SQLITE),
    Attack("read a file", "SELECT pg_read_file('/etc/passwd')", _POSTGRESQL),
    Attack("read a folder", "SELECT pg_ls_dir('/')", _POSTGRESQL),
    Attack("read a file", "SELECT LOAD_FILE('/etc/passwd')", _MARIADB, empty=True),
    Attack("load a file", "LOAD DATA INFILE '/etc/passwd' INTO TABLE job", _MARIADB),
    Attack("stop another question", "SELECT pg_terminate_backend(pg_backend_pid())", _POSTGRESQL),
    Attack("stop another question in a list", "VALUES (pg_terminate_backend(pg_backend_pid())), (true)", _POSTGRESQL),
    Attack("stop another connection", "KILL 1", _MARIADB),
    Attack("hold a lock", "SELECT pg_advisory_lock(1)", _POSTGRESQL),
    Attack("hold a lock", "SELECT GET_LOCK('offload_query', 0)", _MARIADB),
    Attack("hold a lock, in quotes", "SELECT `get_lock`('offload_query', 0)", _MARIADB),
    Attack("let go of a lock", "SELECT RELEASE_ALL_LOCKS()", _MARIADB),
    Attack("call out", "SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1') AS t(a int)", _POSTGRESQL),
    # --- time
    Attack("sleep", "SELECT pg_sleep(3600)", _POSTGRESQL),
    Attack("sleep", "SELECT SLEEP(3600)", _MARIADB, bounded=True),
    Attack("without an end", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"),
    Attack("a cross join of itself", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 900) SELECT count(*) FROM t a, t b, t c, t d"),
    Attack("undo the time limit, then sleep", "SELECT set_config('statement_timeout', '0', true), pg_sleep(3600)", _POSTGRESQL),
    # --- memory and size
    Attack("a gigabyte of text", "SELECT length(hex(zeroblob(900000000)))", _SQLITE),
    Attack("a gigabyte of text", "SELECT repeat('x', 900000000)", _POSTGRESQL, bounded=True),
    Attack("a gigabyte of text", "SELECT REPEAT('x', 900000000)", _MARIADB, empty=True),
    Attack("a text that doubles", "WITH RECURSIVE t(n, s) AS (SELECT 1, 'xxxxxxxx' UNION ALL SELECT n + 1, s || s FROM t WHERE n < 40) SELECT max(length(s)) FROM t", _SQLITE),
    Attack("a sort in memory", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 100000000) SELECT n, hex(randomblob(200)) AS r FROM t ORDER BY r", _SQLITE),
    Attack("a hundred million rows", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 100000000) SELECT n FROM t", _SQLITE, bounded=True),
    Attack("a hundred million rows", "SELECT * FROM generate_series(1, 100000000)", _POSTGRESQL, bounded=True),
    Attack("a hundred million rows", "SELECT seq FROM seq_1_to_100000000", _MARIADB, bounded=True),
    Attack("five hundred columns", "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(500)), bounded=True),
    Attack("brackets without an end", "SELECT " + "(" * 5000 + "1" + ")" * 5000, bounded=True),
)  # fmt: skip
