"""A timeline tells what happened so that a newcomer understands it at a glance."""

import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import func, select

from tests.fixtures.models import TABLES, Account
from unitwork import Base, Database, Propagation, TransactionRefusedError, UnexpectedRollbackError
from unitwork.events import BlockEnded, BlockEntered, Event, Outcome, StatementExecuted
from unitwork.observe.timeline import Timeline

SECONDS = 0.0042


class StockError(Exception):
    """Nothing is left."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Database]:
    """A database in a file, so that its statements are always the same."""
    async with Database(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as shop:
        async with shop.engine.begin() as connection:
            await connection.run_sync(lambda sync: Base.metadata.create_all(sync, tables=TABLES))
        yield shop


@pytest.fixture
def timeline(shop: Database) -> Timeline:
    """A timeline of that database."""
    timeline = Timeline()
    shop.observe(timeline)
    return timeline


def normalised(drawing: str) -> str:
    """The drawing with each duration, and the blanks before it, as `<time>`."""
    return re.sub(r" +\d+\.\d+ m?s$", " <time>", drawing, flags=re.MULTILINE)


def entered(number: int, parent: int | None = None, database: str = "default") -> BlockEntered:
    """The entry of a block."""
    return BlockEntered(number, parent, database, f"shop.block{number}", "REQUIRED", "joins", read_only=False)


def ended(number: int, outcome: Outcome, error: str | None = None) -> BlockEnded:
    """The end of a block."""
    return BlockEnded(number, "default", outcome, SECONDS, error)


def statement(block: int | None, sql: str, error: str | None = None) -> StatementExecuted:
    """A statement in a block."""
    return StatementExecuted(block, "default", sql, SECONDS, error)


def drawn(*events: Event) -> str:
    """What a timeline shows of these events."""
    timeline = Timeline()
    for event in events:
        timeline.notice(event)
    return normalised(timeline.text())


async def test_timeline_shows_blocks_inside_blocks(shop: Database, timeline: Timeline) -> None:
    """Each block shows its propagation, its statements, the blocks inside and its outcome."""

    @shop.transactional(propagation="REQUIRES_NEW")
    async def audit() -> None:
        shop.session.add(Account(name="audit"))

    @shop.transactional(propagation=Propagation.NESTED)
    async def reserve() -> None:
        shop.session.add(Account(name="reserved"))
        await shop.session.flush()
        raise StockError

    @shop.transactional(read_only=True)
    async def how_many() -> int:
        return await shop.session.scalar(select(func.count()).select_from(Account)) or 0

    @shop.transactional
    async def order() -> int:
        await audit()
        shop.session.add(Account(name="ann"))
        with pytest.raises(StockError):
            await reserve()
        return await how_many()

    assert await order() == 2
    assert normalised(timeline.text()) == (
        "╭ order  REQUIRED → new transaction\n"
        "│ ╭ audit  REQUIRES_NEW → new transaction, outer one suspended\n"
        "│ │ BEGIN IMMEDIATE <time>\n"
        "│ │ INSERT INTO account (name, balance) VALUES (?, ?) RETURNING id <time>\n"
        "│ │ COMMIT <time>\n"
        "│ ╰ ✔ committed <time>\n"
        "│ BEGIN IMMEDIATE <time>\n"
        "│ INSERT INTO account (name, balance) VALUES (?, ?) <time>\n"
        "│ ╭ reserve  NESTED → savepoint\n"
        "│ │ SAVEPOINT sa_savepoint_1 <time>\n"
        "│ │ INSERT INTO account (name, balance) VALUES (?, ?) RETURNING id <time>\n"
        "│ │ ROLLBACK TO SAVEPOINT sa_savepoint_1 <time>\n"
        "│ ╰ ✘ StockError: undone to savepoint <time>\n"
        "│ ╭ how_many  read-only  REQUIRED → joins\n"
        "│ ╰ SELECT count(*) AS count_1 FROM account <time>\n"
        "│ COMMIT <time>\n"
        "╰ ✔ committed <time>"
    )


async def test_atomic_unit_is_told_as_what_it_is(shop: Database, timeline: Timeline) -> None:
    """It is a transaction from its first write to its end, or to a commit by hand."""
    async with shop.unit_of_work():
        await shop.session.scalar(select(Account))
        shop.session.add(Account(name="ann"))
        await shop.commit()
        async with shop.transaction():
            shop.session.add(Account(name="bob"))

    told = [line for line in timeline.text(width=400).splitlines() if "→" in line]
    assert [line.partition("→")[2] for line in told if "unit of work" in line] == [" new transaction"] * 2
    assert [line.partition("→")[2] for line in told if "block" in line] == [" joins"]


async def test_timeline_shows_why_a_transaction_could_not_commit(shop: Database, timeline: Timeline) -> None:
    """A joined block that fails is seen to condemn the transaction around it."""

    @shop.transactional
    async def reserve() -> None:
        raise StockError

    @shop.transactional
    async def order() -> None:
        with pytest.raises(StockError):
            await reserve()

    with pytest.raises(UnexpectedRollbackError):
        await order()

    assert normalised(timeline.text()) == (
        "╭ order  REQUIRED → new transaction\n"
        "│ ╭ reserve  REQUIRED → joins\n"
        "│ ╰ ✘ StockError: what it joined must be undone <time>\n"
        "╰ ✘ UnexpectedRollbackError: rolled back <time>"
    )


async def test_timeline_shows_a_block_that_was_refused(shop: Database, timeline: Timeline) -> None:
    """A block that may not be entered is seen where it was asked for."""

    @shop.transactional(propagation="MANDATORY")
    async def reserve() -> None: ...

    with pytest.raises(TransactionRefusedError):
        await reserve()

    assert normalised(timeline.text()) == (
        "╭ reserve  MANDATORY → refused\n"
        "╰ ✘ TransactionRefusedError: refused <time>"
    )  # fmt: skip


async def test_block_without_a_name_is_called_by_its_place(shop: Database, timeline: Timeline) -> None:
    """A block in the middle of a function shows file and line, without folders."""
    async with shop.transaction():
        pass

    assert re.match(r"╭ block at test_timeline\.py:\d+  REQUIRED → new", timeline.text())


def test_failed_statement_shows_its_error() -> None:
    """The error stands before the statement, which may be cut at its end."""
    drawing = drawn(entered(1), statement(1, "INSERT INTO t VALUES (?)", "IntegrityError"))

    assert "│ ✘ IntegrityError: INSERT INTO t VALUES (?) <time>" in drawing


def test_equal_statements_are_one_line_with_their_number() -> None:
    """A statement for each row is seen as what it is."""
    drawing = drawn(entered(1), *[statement(1, "SELECT 1")] * 3, ended(1, Outcome.COMMITTED))

    assert "│ SELECT 1  × 3 <time>" in drawing  # noqa: RUF001  # the sign that is shown


def test_long_statements_take_one_line() -> None:
    """Many selected columns give way to FROM and WHERE; what is still too long is cut."""
    columns = ",\n".join(f"users.column{number}" for number in range(20))
    drawing = drawn(statement(None, f"SELECT {columns}\nFROM users"), statement(None, "INSERT " * 30))

    assert drawing.splitlines()[0] == "SELECT … FROM users <time>"
    assert "INSERT INSERT…" in drawing.splitlines()[1]


def test_joined_block_without_statements_is_one_line() -> None:
    """What has nothing to tell takes no room."""
    drawing = drawn(entered(1), entered(2, 1), ended(2, Outcome.JOINED), ended(1, Outcome.COMMITTED))

    assert drawing == (
        "╭ shop.block1  REQUIRED → joins\n"
        "│ ╶ shop.block2  REQUIRED → joins\n"
        "╰ ✔ committed <time>"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "error", "line"),
    [
        (Outcome.ROLLED_BACK, None, "✘ rolled back"),
        (Outcome.ROLLED_BACK, "StockError", "✘ StockError: rolled back"),
        (Outcome.COMMITTED, "StockError", "✔ committed, and StockError raised"),
        (Outcome.SAVEPOINT_KEPT, None, "✔ savepoint kept"),
        (Outcome.NO_TRANSACTION, None, "✔ ended without a transaction"),
        (Outcome.UNKNOWN, "CommitOutcomeUnknownError", "✘ CommitOutcomeUnknownError: outcome unknown"),
    ],
)
def test_outcome_is_told_in_words(outcome: Outcome, error: str | None, line: str) -> None:
    """The last line of a block says how it ended, and which exception left it."""
    assert drawn(entered(1), ended(1, outcome, error)).splitlines()[-1] == f"╰ {line} <time>"


def test_open_block_is_said_to_be_open() -> None:
    """A timeline may be shown in the middle of a transaction."""
    assert drawn(entered(1)).splitlines()[-1] == "╰ … still open"


def test_databases_are_named_when_there_are_several() -> None:
    """With one database its name would only be noise."""
    alone = drawn(entered(1))
    together = drawn(entered(1), entered(2, database="audit"))

    assert " on 'default'" not in alone
    assert "shop.block2  REQUIRED → joins  on 'audit'" in together


def test_events_without_their_beginning_stand_by_themselves() -> None:
    """A timeline that comes late loses nothing, and fails at nothing."""
    drawing = drawn(statement(7, "SELECT 1"), ended(7, Outcome.COMMITTED), entered(8, 7))

    assert drawing.splitlines()[0] == "SELECT 1 <time>"
    assert drawing.splitlines()[2] == "╭ shop.block8  REQUIRED → joins"


def test_oldest_blocks_are_forgotten_at_the_limit() -> None:
    """A timeline in a program that runs for long does not grow for ever."""
    timeline = Timeline(limit=2)
    for number in range(1, 6):
        timeline.notice(entered(number))
        timeline.notice(ended(number, Outcome.COMMITTED))

    assert re.findall(r"block(\d)", timeline.text()) == ["4", "5"]


def test_timeline_forgets_when_cleared() -> None:
    """One timeline can be shown step by step."""
    timeline = Timeline()
    timeline.notice(entered(1))

    timeline.clear()

    assert str(timeline) == ""


def test_file_gets_no_colours() -> None:
    """What is not a terminal gets plain text."""
    timeline, file = Timeline(), io.StringIO()
    timeline.notice(entered(1))

    timeline.show(file)

    assert file.getvalue() == "╭ shop.block1  REQUIRED → joins\n╰ … still open\n"


def test_terminal_gets_colours() -> None:
    """Outcomes are coloured: green for committed."""
    timeline, file = Timeline(), io.StringIO()
    timeline.notice(entered(1))
    timeline.notice(ended(1, Outcome.COMMITTED))

    Console(file=file, force_terminal=True, color_system="standard").print(timeline)

    assert "\x1b[1;32m✔ committed" in file.getvalue()


def test_plain_signs_are_used_where_others_cannot_be_shown() -> None:
    """A terminal that knows ASCII alone shows the same tree."""
    bytes_out = io.BytesIO()
    file = io.TextIOWrapper(bytes_out, encoding="ascii")
    timeline = Timeline()
    timeline.notice(entered(1))
    timeline.notice(ended(1, Outcome.COMMITTED))

    timeline.show(file)
    file.flush()

    assert (
        normalised(bytes_out.getvalue().decode())
        == "+ shop.block1  REQUIRED -> joins\n` ok committed <time>\n"
    )


def test_narrow_drawing_keeps_the_durations() -> None:
    """However narrow, a line ends with its duration."""
    timeline = Timeline()
    timeline.notice(statement(None, "SELECT something FROM somewhere"))

    assert normalised(timeline.text(width=5)) == "SELECT s… <time>"


WITHOUT_RICH = """
import sys
sys.modules["rich"] = sys.modules["rich.console"] = None
from unitwork.observe import StatementLog
StatementLog()
try:
    import unitwork.observe.timeline
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_only_the_timeline_needs_rich() -> None:
    """Without rich, statements can be counted; the timeline says what to install."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH], capture_output=True, text=True, check=True, timeout=18
    )

    assert done.stdout == (
        "MissingExtraError The timeline needs the package 'rich', which is not installed.\n"
        "  Fix: pip install 'unitwork[cli]'\n"
    )
