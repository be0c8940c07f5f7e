"""`make demo` does the main job and shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 18


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints, without the times, the blanks before them, and the frames of tables."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples/demo.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": "src"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return re.sub(r" +\d+\.\d+ m?s$", "", done.stdout, flags=re.MULTILINE)


def part(shown: str, number: int) -> str:
    """What the demo prints for one step."""
    ends = rf"^{number + 1}\. |^What is stored"
    following = re.search(rf"^{number}\. .*?(?={ends})", shown, re.MULTILINE | re.DOTALL)
    assert following is not None
    return following.group()


def test_demo_creates_a_user_in_one_transaction(shown: str) -> None:
    """The first step is a whole transaction, from the call to COMMIT."""
    lines = part(shown, 1).splitlines()

    assert "╭ SignUp.register  REQUIRED → new transaction" in lines
    assert "│ INSERT INTO users (name, email) VALUES (?, ?) RETURNING id" in lines
    assert "╰ ✔ committed" in lines


def test_demo_refuses_the_duplicate(shown: str) -> None:
    """The second step rolls back and tells the caller why."""
    step = part(shown, 2)

    assert "INSERT" not in step
    assert "╰ ✘ EmailTakenError: rolled back" in step
    assert "The caller gets  EmailTakenError: ada@example.com has an account already" in step


def test_demo_shows_that_a_failing_call_leaves_nothing(shown: str) -> None:
    """The third step inserts one person, fails at the next, and rolls back both."""
    step = part(shown, 3)

    assert step.count("INSERT INTO users") == 2
    assert "│ ╰ ✘ IntegrityError: what it joined must be undone" in step
    assert "╰ ✘ IntegrityError: rolled back" in step


def test_demo_keeps_the_audit_line(shown: str) -> None:
    """The fourth step commits in the inner block, and rolls back in the outer one."""
    step = part(shown, 4)

    assert "│ ╭ Audit.note  REQUIRES_NEW → new transaction, outer one suspended" in step
    assert "│ ╰ ✔ committed" in step
    assert "╰ ✘ AccountLockedError: rolled back" in step


def test_demo_undoes_nested_parts_alone(shown: str) -> None:
    """The fifth step undoes two people to their savepoints and commits the others."""
    step = part(shown, 5)

    assert step.count("✔ savepoint kept") == 2
    assert step.count(": undone to savepoint") == 2
    assert "╰ ✔ committed" in step
    assert "The caller gets  'refused: Ada Byron, Hedy Lamarr'" in step


def test_demo_shows_what_is_stored(shown: str) -> None:
    """The end agrees with the steps: three users and one audit line."""
    stored = shown[shown.index("What is stored") :]

    assert re.findall(r"(\w+@example.com) +│$", stored, re.MULTILINE) == [
        "ada@example.com",
        "grace@example.com",
        "radia@example.com",
    ]
    assert "ada@example.com asked to close the account" in stored


IMPORTED = """
import sys
from importlib.metadata import packages_distributions
import examples.demo
used = {name.partition(".")[0] for name in sys.modules} & set(packages_distributions())
print(*sorted({each.lower().replace("_", "-") for name in used for each in packages_distributions()[name]}))
"""


def test_demo_needs_what_make_installs_for_it() -> None:
    """`make demo` installs a handful of packages: the demo imports none but these and unitwork."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"src{os.pathsep}."},
    )
    requirements = (ROOT / "requirements" / "demo.txt").read_text(encoding="utf-8")
    installed = set(re.findall(r"^([\w-]+)==", requirements, re.MULTILINE))

    assert set(done.stdout.split()) - {"unitwork", "setuptools"} <= installed
