"""Everything is accounted for, also by the drill."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"

BREAKS = [
    Break(
        "G9",
        "a drill does not see what is lost",
        "flaskapp/drill/count.py",
        "if not effects.get(key) and",
        "if False and",
        f"{_I}/test_drill.py::test_an_effect_that_is_missing_is_lost[sqlite-effect]",
    ),
    Break(
        "G9",
        "a drill does not see what is doubled",
        "flaskapp/drill/count.py",
        "sorted(effects.items()) if times > 1]",
        "sorted(effects.items()) if times > 2]",
        f"{_I}/test_drill.py::test_a_second_effect_is_doubled[sqlite]",
    ),
    Break(
        "G9",
        "what a worker holds counts as missing at the broker",
        "flaskapp/jobs/comparing.py",
        " - held.get(queue, 0) - messages",
        " - messages",
        f"{_I}/test_stats.py::test_both_counts_are_told_apart[sqlite]",
    ),
    Break(
        "G9",
        "prune forgets to count",
        "flaskapp/jobs/pruning.py",
        "        session.execute(insert(Tally).values(accepted=0, pruned=len(ids)))\n",
        "",
        f"{_I}/test_memory.py::test_the_books_balance_through_every_arrow[sqlite]",
    ),
    Break(
        "G9",
        "nothing is counted as accepted",
        "flaskapp/jobs/submitting.py",
        '{"accepted": accepted, "pruned": 0}',
        '{"accepted": 0, "pruned": 0}',
        f"{_I}/test_queries.py::test_a_row_deleted_by_hand_shows_as_drift[sqlite]",
    ),
]
