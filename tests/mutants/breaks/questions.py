"""Questions in SQL only read, and only what their asker may see."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"

BREAKS = [
    Break(
        "questions",
        "a WITH of a view's name reads the table behind it",
        "flaskapp/query/child/sqlite.py",
        "if through is not None and through in self._views.values():",
        "if through is not None:",
        f"{_I}/test_query_attacks.py::test_every_attack_is_held_off[sqlite-viewer]",
    ),
    Break(
        "questions",
        "PostgreSQL's functions that reach past the question may be called",
        "flaskapp/query/child/reach.py",
        "    if refused:\n",
        "    if False:\n",
        f"{_I}/test_query_attacks.py::test_every_attack_is_held_off[postgresql-viewer]",
    ),
    Break(
        "questions",
        "PostgreSQL's plan is believed to show all that is called",
        "flaskapp/query/child/postgresql.py",
        "    check_question(cursor, sql)\n",
        "",
        f"{_I}/test_query_attacks.py::test_every_attack_is_held_off[postgresql-viewer]",
    ),
    Break(
        "questions",
        "SQLite tries a question's condition before its view has let a row through",
        "flaskapp/query/child/sqlite.py",
        'kept = "MATERIALIZED" if holds_back else ""',
        'kept = ""',
        f"{_I}/test_asking.py::test_no_condition_is_tried_on_a_row_that_an_index_finds[sqlite]",
    ),
    Break(
        "questions",
        "MariaDB runs what is no SELECT",
        "flaskapp/query/child/mariadb.py",
        "        _prove_that_it_is_a_select(cursor, sql)\n",
        "",
        f"{_I}/test_query_attacks.py::test_every_attack_is_held_off[mariadb-viewer]",
    ),
    Break(
        "questions",
        "views show everybody's rows",
        "flaskapp/query/asking.py",
        'visible = "" if sees_all else',
        'visible = "" if True else',
        f"{_I}/test_asking.py::test_a_viewer_sees_what_is_theirs_and_an_operator_all[sqlite]",
    ),
    Break(
        "questions",
        "a view may be tried with a question's condition first",
        "flaskapp/query/access.py",
        " WITH (security_barrier) AS ",
        " AS ",
        f"{_I}/test_query_accounts.py::test_every_view_decides_before_a_condition_is_tried[postgresql]",
    ),
    Break(
        "questions",
        "heavy questions may hold every slot",
        "migrations/versions/0011_questions_leave_slots.py",
        'values(name="query", max_running=1)',
        'values(name="query", max_running=None)',
        f"{_I}/test_migrations.py::test_one_question_runs_at_a_time_unless_somebody_has_said_otherwise[sqlite]",
    ),
    Break(
        "questions",
        "nobody waits for others' turns",
        "flaskapp/query/actions.py",
        "owner=owner, priority=turn)",
        "owner=owner)",
        f"{_I}/test_asking.py::test_many_questions_of_one_person_do_not_keep_the_first_of_another_waiting[sqlite]",
    ),
    Break(
        "workflows",
        "a join outlives its members",
        "flaskapp/jobs/pruning.py",
        "    if joins:\n",
        "    if False:\n",
        f"{_I}/test_drill.py::test_a_join_goes_with_the_last_of_its_members[sqlite]",
    ),
]
