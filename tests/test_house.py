"""The house itself: rooms keep to their floor, and what a person may meet is written down."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from beat_schedule import SCHEDULE
from flaskapp import cli, config
from flaskapp.jobs.models import QUEUES, JobState

ROOT = Path(__file__).parent.parent
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("job", "operate", "extend", "why")}


def test_imports_go_down_only() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_is_explained(state: JobState) -> None:
    assert f"| **{state}** |" in DOCS["job"]


def test_every_arrow_is_drawn() -> None:
    arrows = [
        arrow
        for file in ("lifecycle", "claiming")
        for arrow in re.findall(r"^def ([a-z]\w+)", (ROOT / f"flaskapp/jobs/{file}.py").read_text(), re.MULTILINE)
    ]
    # Not arrows: what they are made of, and what only looks.
    apart = {
        "new_job_id",
        "submit_failed",
        "take_to_send",
        "release_unsent",
        "known",
        "settle",
        "still_held",
        "compact_tally",
        "expire_overdue",
    }
    drawing = DOCS["job"].split("```")[1]
    assert [arrow for arrow in arrows if arrow not in apart and arrow not in drawing] == []


def test_every_setting_is_documented() -> None:
    names = set(re.findall(r'"([A-Z][A-Z_]+)"', (ROOT / "flaskapp/config.py").read_text())) - {"RESULT_BACKEND"}
    assert [name for name in sorted(names) if f"`{name}`" not in DOCS["operate"]] == []


def test_every_command_is_documented() -> None:
    from flask import Flask

    app = Flask("house")
    cli.init_app(app)
    everything = " ".join(DOCS.values())
    for group in ("users", "jobs", "schedules", "query", "queues"):
        commands = app.cli.commands[group].commands  # type: ignore[attr-defined]
        missing = [name for name in commands if f"{group} {name}" not in everything and name != "first-admin"]
        assert missing == [], group


def test_every_scheduled_task_has_a_name_of_its_subject() -> None:
    for name, entry in SCHEDULE.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", entry["task"]), name


def test_every_subject_with_a_queue_is_routed_there(tmp_path: Path) -> None:
    from flaskapp import create_app

    app = create_app(config.from_environment({"INSTANCE_PATH": str(tmp_path)}))
    routes = app.extensions["celery"].conf.task_routes
    assert {route["queue"] for route in routes.values()} == set(QUEUES) - {"default"}


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "flaskapp").rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 340} == {}


def test_nothing_that_others_wrote_is_committed() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert [name for name in done.stdout.split() if re.search(r"\.min\.(js|css)$|node_modules|/vendor/", name)] == []
