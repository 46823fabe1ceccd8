"""`make faults`: runs every fault on both stacks, prints what each cost, and writes it into docs/operate.md.

Nothing is written when a test failed: the page shows what was last seen to hold.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers import ROOT

PAGE = ROOT / "docs" / "operate.md"
PLACE = re.compile(r"(?<=<!-- made by `make faults` -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.md"
        os.environ["FAULTS_TABLE"] = str(file)
        code = pytest.main(["-q", str(ROOT / "tests" / "faults"), *sys.argv[1:]])
        table = file.read_text() if file.exists() else "No fault was tried.\n"
    print(f"\n{table}")
    if code == 0:
        PAGE.write_text(PLACE.sub(lambda _: table, PAGE.read_text()))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
