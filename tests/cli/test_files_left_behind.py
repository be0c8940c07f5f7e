"""What a program that was killed has left beside its target goes with the next one that writes there."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unitwork.cli._files import NewFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is known there of who uses a file")

WRITER = """
import sys
from unitwork.cli._files import NewFile

with NewFile(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writes", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(target: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is in the middle of writing a file."""
    program = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "writes\n"
        yield program
        program.kill()


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def write(target: Path) -> None:
    """Write a file to its end."""
    with NewFile(target) as file:
        file.write(b"whole")


def test_file_of_a_program_that_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    """The target has its new content, and nothing is left beside it."""
    target = tmp_path / "out.csv"
    for _ in range(2):
        with writer(target) as program:
            program.kill()
    assert len(names(tmp_path)) >= 1

    write(target)

    assert names(tmp_path) == {"out.csv"}
    assert target.read_bytes() == b"whole"


def test_file_that_is_being_written_stays(tmp_path: Path) -> None:
    """Two programs write one target: the one that ends last wins, and neither loses its file."""
    target = tmp_path / "out.csv"
    with writer(target) as program:
        write(target)
        assert len(names(tmp_path)) == 2
        program.communicate("")

    assert names(tmp_path) == {"out.csv"}
    assert target.read_bytes() == b"half"


def test_file_of_another_target_stays(tmp_path: Path) -> None:
    """It is none of this program's business, and neither is what others have called in a similar way."""
    with writer(tmp_path / "other.csv") as program:
        program.kill()
    (tmp_path / ".unitwork-notes").write_text("mine")
    before = names(tmp_path)

    write(tmp_path / "out.csv")

    assert names(tmp_path) == {*before, "out.csv"}
