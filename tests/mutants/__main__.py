"""Breaks the code line by line in a copy of the tree and runs the test that must notice: `make mutants`.

Each break is one line of the copy; its test must pass before and fail after. A break that no test notices, or whose
text is not in the code any more, makes the exit code 1. Nothing here touches the working tree.

    python -m tests.mutants [WORD …]      only the breaks whose promise, file or test contains a word
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.breaks import BREAKS, Break

ROOT = Path(__file__).parent.parent.parent
#: No test of the list takes longer; a broken one may wait for what never comes.
_SECONDS = 300
_RED, _GREEN = 1, 0


def main() -> int:
    wanted = [each for each in BREAKS if all(word in str(each) for word in sys.argv[1:])]
    tree = Path(tempfile.mkdtemp(prefix="offload-mutants-")) / "tree"
    try:
        copy_of_the_tree(tree)
        print(f"{len(wanted)} breaks. First every test unbroken …", flush=True)
        sound = passing(tree, sorted({each.test for each in wanted}))
        print(f"\n| promise | break | in | test | result |\n|{'---|' * 5}", flush=True)
        survived = sum(not is_noticed(tree, each, sound) for each in wanted)
    finally:
        shutil.rmtree(tree.parent, ignore_errors=True)
    print(f"\n{len(wanted) - survived} of {len(wanted)} breaks were noticed.")
    return 1 if survived else 0


def copy_of_the_tree(tree: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def passing(tree: Path, tests: list[str]) -> set[str]:
    """Those that are green while nothing is broken; a test that is red anyway proves nothing."""
    if not tests or run(tree, tests) == _GREEN:
        return set(tests)
    return {test for test in tests if run(tree, [test]) == _GREEN}


def is_noticed(tree: Path, each: Break, sound: set[str]) -> bool:
    began = time.monotonic()
    verdict = "the test is red without it" if each.test not in sound else broken(tree, each)
    where = each.test.rpartition("::")[2]
    seconds = time.monotonic() - began
    print(f"| {each.promise} | {each.what} | {each.file} | {where} | {verdict}, {seconds:.0f} s |", flush=True)
    return verdict == "red"


def broken(tree: Path, each: Break) -> str:
    path = tree / each.file
    text = path.read_text()
    if text.count(each.old) != 1:
        return f"its text stands {text.count(each.old)} times in the file"
    path.write_text(text.replace(each.old, each.new))
    try:
        code = run(tree, [each.test])
    finally:
        path.write_text(text)
    return {_RED: "red", _GREEN: "NOT NOTICED"}.get(code, f"pytest ended with {code}")


def run(tree: Path, tests: list[str]) -> int:
    """pytest's exit code; a test that hangs counts as red."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    try:
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        return _RED


if __name__ == "__main__":
    sys.exit(main())
