"""This module is the command line of the benchmark."""

import json
from collections.abc import Callable, Sequence
from functools import partial as partial_call
from pathlib import Path

import click
from rich.console import Console

from benchmarks.chart import svg
from benchmarks.environments import CACHE, ROOT, Contender, NotAvailableError, contenders
from benchmarks.markdown import markdown
from benchmarks.measure import compare
from benchmarks.plan import BASELINE, DATABASES, FULL, NORMAL, TINY, WORKLOADS, Size, cells
from benchmarks.report import report_of, show
from benchmarks.results import Partial, fingerprint, partial_file
from benchmarks.web_measure import WEB, compare_web

_SIZES = {"normal": NORMAL, "full": FULL, "tiny": TINY}

_FILE_COLUMNS = 170

_HELP = """Compare the speed of unitwork with code written by hand and with other libraries.

Every number is a ratio: the time of one contender divided by the time that SQLAlchemy's ORM takes
when it is written by hand (`async with sessionmaker() as session, session.begin():`), on the same
database, in the same round. Below 1 is faster. Contenders take turns in many short rounds, and the
median of the ratios of all rounds is shown, so that a machine that is busy with other things slows
all of them alike. For HTTP the numbers are requests per second, relative to `Depends(session)`:
there, above 1 is faster.

\b
Examples
  make bench                                   everything, in some minutes
  python benchmarks/run.py --only postgresql   one database
  python benchmarks/run.py --only get/16       one workload, by 16 tasks at once
  python benchmarks/run.py --only http         the web alone
  python benchmarks/run.py --with hand,ours    some contenders only
  python benchmarks/run.py --list              names of all cells and contenders

With --cpu the ratios are of the CPU time that the client's process takes: what a service pays for,
and what a busy machine changes least.

Servers are started for the run alone and removed after it. A run that was stopped goes on where it
was when it is started again; change a source file, and it begins anew.

\b
Adding a peer: write benchmarks/peers/<name>.py with
  TITLE         what the table calls it
  REQUIREMENTS  what pip installs into an environment of its own, below .benchmarks
  DATABASES     a tuple of: postgresql, sqlite, mariadb
  connect       async, takes a Place; returns an object with one async method per workload
Leave out the methods that it has no way to do; the table shows a dash. Each answer is checked once
before it is timed.
"""


@click.command(help=_HELP)
@click.option("--only", multiple=True, metavar="WORD", help="Only cells whose name has this word in it.")
@click.option("--with", "names", metavar="A,B", help="Only these contenders; `hand` always takes part.")
@click.option("--size", type=click.Choice(list(_SIZES)), default="normal", show_default=True)
@click.option("--full", is_flag=True, help="The same as --size full: more rounds, for numbers to publish.")
@click.option("--fresh", is_flag=True, help="Forget what an interrupted run has measured.")
@click.option("--cpu", is_flag=True, help="Show the CPU time of the client in place of the time that passes.")
@click.option("--list", "listed", is_flag=True, help="Say what there is, and measure nothing.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=CACHE.relative_to(ROOT) / "latest",
    show_default=True,
    help="Folder for results.json, chart.svg and table.md.",
)
def main(  # noqa: PLR0913  # one parameter for each option
    only: Sequence[str],
    names: str | None,
    size: str,
    output: Path,
    *,
    full: bool,
    fresh: bool,
    cpu: bool,
    listed: bool,
) -> None:
    """Run the benchmark."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    if listed:
        _list(console)
        return
    chosen = "full" if full else size
    partial, known = _measured(console, only, names, chosen, fresh=fresh)
    report = report_of(partial, known, chosen, by_cpu=cpu)
    partial.forget()
    if not report.rows and not report.web:
        raise click.ClickException("nothing was measured. Fix: see --list for the words of --only.")
    show(console, report)
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(report.plain(), indent=1) + "\n")
    (output / "chart.svg").write_text(svg(report))
    (output / "table.md").write_text(markdown(report))
    console.print(f"Written to {output}: results.json, chart.svg and table.md")


def _list(console: Console) -> None:
    console.print("[bold]Contenders[/]")
    for one in contenders():
        console.print(f"  {one.name:26}{one.title} ({', '.join(one.databases)})")
    console.print("[bold]Workloads[/]: <database>/<workload>/<tasks>, as in postgresql/get/16")
    for workload in WORKLOADS:
        console.print(f"  {workload.name:26}{workload.title}")
    console.print("[bold]Web[/]: http/<what>")
    for name, title in WEB.items():
        console.print(f"  http/{name:21}{title}")


def _measured(
    console: Console, only: Sequence[str], names: str | None, size_name: str, *, fresh: bool
) -> tuple[Partial, list[Contender]]:
    size: Size = _SIZES[size_name]
    words = sorted(only)
    partial = Partial(partial_file(fingerprint(f"{size_name} {words} {names}")))
    if fresh:
        partial.forget()
        partial = Partial(partial_file(fingerprint(f"{size_name} {words} {names}")))
    wanted = None if names is None else {BASELINE, *names.split(",")}
    known = [one for one in contenders() if wanted is None or one.name in wanted]
    say = _sayer(console)
    jobs: list[tuple[str, Callable[[], None]]] = []
    for database in DATABASES:
        chosen = list(cells([database], words))
        if chosen:
            jobs.append((database, partial_call(compare, chosen, known, size, partial, say)))
    if not words or any("http" in word for word in words):
        jobs.append(("http", partial_call(compare_web, words, size, partial, say)))
    for name, job in jobs:
        try:
            job()
        except NotAvailableError as reason:
            partial.learn({}, [f"{name} is left out: {reason}"])
            say(partial.notes[-1])
    return partial, known


def _sayer(console: Console) -> Callable[[str], None]:
    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False, markup=False)

    return say
