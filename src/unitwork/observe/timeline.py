"""This module draws what transactions did, for a person to read. Needs `unitwork[cli]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from unitwork._logic.block_names import short_name
from unitwork._logic.sql.shown import is_control
from unitwork.errors import MissingExtraError
from unitwork.events import BlockEnded, BlockEntered, Outcome
from unitwork.observe.stories import BlockStory, Happening, Statements, Stories

try:
    from rich.console import Console
    from rich.text import Text
except ModuleNotFoundError as error:
    raise MissingExtraError("The timeline", "rich", "cli") from error

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

    from unitwork.events import Event

__all__ = ["Timeline"]

_WIDTH = 100
_DURATION_WIDTH = 9
_COLUMNS_SHOWN = 40
_SELECTED = re.compile(r"^(SELECT(?: DISTINCT)? )(.+?)( FROM )", re.IGNORECASE)

_STYLES = {
    Outcome.COMMITTED: "bold green",
    Outcome.SAVEPOINT_KEPT: "green",
    Outcome.ROLLED_BACK: "bold red",
    Outcome.SAVEPOINT_UNDONE: "bold yellow",
    Outcome.CONDEMNED: "red",
    Outcome.REFUSED: "red",
    Outcome.UNKNOWN: "bold magenta",
}


@dataclass(frozen=True, slots=True)
class Guides:
    """The signs that draw the extent of a block, and how it ended."""

    first: str
    middle: str
    last: str
    only: str
    good: str
    bad: str
    arrow: str
    times: str
    cut: str


_LINES = Guides("╭ ", "│ ", "╰ ", "╶ ", "✔", "✘", "→", "×", "…")  # noqa: RUF001  # a multiplication sign is meant
_ASCII = Guides("+ ", "| ", "` ", "- ", "ok", "x", "->", "x", "...")


@dataclass(slots=True)
class _Row:
    """One line of the drawing: what happened, and how long it took."""

    text: Text
    duration_s: float | None = None

    def line(self, width: int, cut: str) -> Text:
        """Return the text, cut if it is too long, and the duration in its column at the right."""
        room = max(width - _DURATION_WIDTH, _DURATION_WIDTH)
        text = self.text.copy()
        if text.cell_len > room:
            text.truncate(room - len(cut), overflow="crop")
            text.append(cut)
        if self.duration_s is not None:
            text.append(" " * (room - text.cell_len))
            text.append(_duration(self.duration_s).rjust(_DURATION_WIDTH), "dim")
        return text


class Timeline:
    """An observer that keeps what blocks and statements did, and draws it as a tree.

    Each block is drawn from its entry to its outcome: its name, its propagation and what that led
    to, the statements with their durations, and the blocks inside. Give it to
    `rich.print` or to a rich console for colours, or call `show()`; as text it has none.
    Lives: as long as you observe.

    Args:
        limit: How many outermost blocks are kept; the oldest ones are forgotten first.

    Examples:
        >>> timeline = Timeline()
        >>> db.observe(timeline)
        >>> async with db.transaction(read_only=True):
        ...     await db.session.scalar(select(User.email))
        >>> print(timeline)
        ╭ block at ...  read-only  REQUIRED → new transaction
        │ PRAGMA query_only=ON ... ms
        │ BEGIN DEFERRED ... ms
        │ SELECT users.email FROM users ... ms
        │ COMMIT ... ms
        ╰ ✔ committed ... ms
    """

    def __init__(self, *, limit: int = 1_000) -> None:
        self._limit = limit
        self._stories = Stories(limit)

    def notice(self, event: Event, /) -> None:
        """Take one event; called by the Databases that are observed."""
        self._stories.take(event)

    def clear(self) -> None:
        """Forget what was kept. Blocks that are open now are told without their beginning."""
        self._stories = Stories(self._limit)

    def show(self, file: IO[str] | None = None) -> None:
        """Print to a file, by default the standard output; in colour when that is a terminal."""
        console = Console(file=file)
        if not console.is_terminal:
            console.width = _WIDTH
        console.print(self)

    def text(self, *, width: int = _WIDTH) -> str:
        """Return the drawing without colours. `width` is in characters."""
        return "\n".join(line.plain for line in self._lines(_LINES, width))

    def __str__(self) -> str:
        return self.text()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw for a rich console; with plain signs where it cannot show others."""
        yield from self._lines(_ASCII if options.ascii_only else _LINES, min(options.max_width, _WIDTH))

    def _lines(self, guides: Guides, width: int) -> Iterator[Text]:
        several = len(self._stories.databases()) > 1
        drawing = _Drawing(guides, several=several)
        for row in drawing.rows_apart(self._stories.outermost):
            yield row.line(width, guides.cut)


class _Drawing:
    """Turns trees into rows. Lives: one drawing."""

    def __init__(self, guides: Guides, *, several: bool) -> None:
        self._guides = guides
        self._several = several

    def rows_apart(self, happenings: Iterable[Happening]) -> Iterator[_Row]:
        """Draw outermost happenings, with an empty line before and after each block."""
        before: Happening | None = None
        for happening in happenings:
            if before is not None and isinstance(before, BlockStory) | isinstance(happening, BlockStory):
                yield _Row(Text())
            yield from self.rows([happening])
            before = happening

    def rows(self, happenings: Iterable[Happening]) -> Iterator[_Row]:
        """Draw happenings one below another."""
        for happening in happenings:
            if isinstance(happening, BlockStory):
                yield from self._block(happening)
            else:
                yield self._statement(happening)

    def _block(self, story: BlockStory) -> Iterator[_Row]:
        guides = self._guides
        rows = [self._header(story.entered), *self.rows(story.inside), *self._end(story)]
        # The block's own line down the left: it begins at the name and ends at the last row.
        style = _style(story.ended)
        for number, row in enumerate(rows):
            guide = guides.middle
            if number == 0:
                guide = guides.first if len(rows) > 1 else guides.only
            elif number == len(rows) - 1:
                guide = guides.last
            yield _Row(Text.assemble((guide, style), row.text), row.duration_s)

    def _header(self, entered: BlockEntered) -> _Row:
        text = Text(short_name(entered.name), style="bold")
        if entered.read_only:
            text.append("  read-only", "not bold blue")
        text.append(f"  {entered.propagation} {self._guides.arrow} {entered.step}", "not bold cyan")
        if self._several:
            text.append(f"  on {entered.database!r}", "not bold dim")
        return _Row(text)

    def _statement(self, statement: Statements) -> _Row:
        sql = _short_sql(statement.sql, self._guides.cut)
        text = Text(sql, style="dim" if is_control(sql) else "")
        if statement.times > 1:
            text.append(f"  {self._guides.times} {statement.times}", "bold")
        if statement.error is not None:
            # In front: a long statement is cut at its end.
            text = Text.assemble((f"{self._guides.bad} {statement.error}: ", "red"), text)
        return _Row(text, statement.duration_s)

    def _end(self, story: BlockStory) -> Iterator[_Row]:
        ended = story.ended
        if ended is None:
            yield _Row(Text(f"{self._guides.cut} still open", style="dim"))
        elif ended.error is not None or ended.outcome is not Outcome.JOINED:
            yield _Row(Text(self._outcome(ended), style=_style(ended)), ended.duration_s)

    def _outcome(self, ended: BlockEnded) -> str:
        guides, outcome, error = self._guides, ended.outcome, ended.error
        kept = outcome in (Outcome.COMMITTED, Outcome.SAVEPOINT_KEPT, Outcome.JOINED)
        if error is None:
            return (
                f"{guides.good if kept or outcome is Outcome.NO_TRANSACTION else guides.bad} {outcome.value}"
            )
        if outcome is Outcome.CONDEMNED:
            return f"{guides.bad} {error}: what it joined must be undone"
        if kept:
            return f"{guides.good} {outcome.value}, and {error} raised"
        return f"{guides.bad} {error}: {outcome.value}"


def _style(ended: BlockEnded | None) -> str:
    return "dim" if ended is None else _STYLES.get(ended.outcome, "dim")


def _short_sql(sql: str, cut: str) -> str:
    selected = _SELECTED.match(sql)
    if selected is None or len(selected.group(2)) <= _COLUMNS_SHOWN:
        return sql
    return f"{selected.group(1)}{cut}{selected.group(3)}{sql[selected.end() :]}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
