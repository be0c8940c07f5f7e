"""How reads scale with replicas, and what keeping them fresh costs: `python benchmarks/scaling.py`.

Starts a PostgreSQL primary with two standbys of its own, measures what one read, one write, its replay and
one question about a position take of a core, counts the statements of each operation, and calculates from
that what 2 to 50 replicas carry. Prints the tables of `docs/explanation/scaling.md`.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path[:1] = [str(Path(__file__).resolve().parents[1] / each) for each in ("src", "")]

import psutil  # type: ignore[import-untyped]  # noqa: E402  # after the path
from sqlalchemy import event  # noqa: E402  # after the path
from sqlalchemy.orm import Mapped, mapped_column  # noqa: E402  # after the path

from tests.fixtures.clusters.postgresql import Replication, start_replication  # noqa: E402  # after the path
from unitwork import Base, Database, Repository  # noqa: E402  # after the path

TIMES = 3_000
REPLICAS = (0, 2, 5, 10, 20, 50)
WRITES_PER_S = (100, 1_000, 3_000)
PROCESSES = 20
"""Of the service; each asks all servers."""
QUESTIONS_PER_S = 50
"""Of each process to each server, when writes and reads mix all the time: one every 20 ms."""


class Counter(Base):
    """A row that is read and written."""

    __tablename__ = "counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


@dataclass(frozen=True)
class Costs:
    """What operations take of a core of a server, in seconds."""

    read: float
    write: float
    replay: float
    question: float

    def reads_per_s(self, replicas: int, writes_per_s: float) -> float:
        """What is left for reads on cores that do all else first: one for each server."""
        asked = PROCESSES * QUESTIONS_PER_S * self.question if replicas else 0.0
        primary = max(0.0, 1 - writes_per_s * self.write - asked)
        others = max(0.0, 1 - writes_per_s * self.replay - asked)
        return (replicas * others if replicas else primary) / self.read


def cpu_of(port: int) -> float:
    """Seconds of CPU that the server on a port has taken: its first process, and what that has started."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "postgres" in process.name() and ["-p", str(port)] == _after(process.cmdline(), "-p"):
                return sum(map(_cpu_of_process, [process, *process.children()]))
    raise LookupError(port)


def _after(words: list[str], wanted: str) -> list[str]:
    return words[words.index(wanted) :][:2] if wanted in words else []


def _cpu_of_process(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


async def measured(port: int, work: Callable[[], Awaitable[object]]) -> float:
    """Seconds of CPU of a server for one piece of work."""
    await work()
    before = cpu_of(port)
    for _ in range(TIMES):
        await work()
    return (cpu_of(port) - before) / TIMES


def port_of(url: object) -> int:
    """The port in an address."""
    return int(getattr(url, "port"))  # noqa: B009  # of SQLAlchemy's


async def costs(cluster: Replication) -> Costs:
    """Measure on the servers themselves."""
    primary, replica = (
        cluster.primary_url("postgresql+asyncpg"),
        cluster.replica_urls("postgresql+asyncpg")[0],
    )
    async with Database(primary, name="primary") as writes, Database(replica, name="replica") as reads:
        await writes.drop_all(Base)
        await writes.create_all(Base)
        counters, readers = Repository[Counter](writes), Repository[Counter](reads)
        await counters.add(Counter(id=1, number=0))
        await asyncio.sleep(1)
        read = await measured(port_of(replica), lambda: readers.get(1))

        async def write() -> None:
            async with writes.transaction():
                await counters.where(Counter.id == 1).update(number=Counter.number + 1)

        before = cpu_of(port_of(replica))
        written = await measured(port_of(primary), write)
        replay = (cpu_of(port_of(replica)) - before) / TIMES

        async with reads.engine.connect() as connection:
            question = writes.source.backend.replication
            assert question is not None
            asked = await measured(port_of(replica), lambda: connection.exec_driver_sql(question.question))
    return Costs(read, written, replay, asked)


async def choosing(cluster: Replication) -> tuple[float, float]:
    """Microseconds that a client takes for choosing a server, and for a get by key written by hand."""
    url = cluster.primary_url("postgresql+asyncpg")
    async with Database(url, replicas=cluster.replica_urls("postgresql+asyncpg"), name="several") as db:
        counters = Repository[Counter](db)
        await counters.get(1)
        source = db.source

        def choose() -> None:
            place: object = source.place_for_read()
            source.used(place, wrote=False)  # type: ignore[arg-type]  # one is free

        async def by_hand() -> None:
            async with db.session_factory() as session, session.begin():
                await session.get(Counter, 1)

        chosen = min(_cpu_of(choose, 1_000) for _ in range(20))
        await by_hand()
        hand = []
        for _ in range(20):
            before = time.process_time()
            for _ in range(100):
                await by_hand()
            hand.append((time.process_time() - before) / 100)
    return chosen * 1e6, min(hand) * 1e6


def _cpu_of(work: Callable[[], None], times: int) -> float:
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) / times


async def messages(cluster: Replication) -> list[tuple[str, int, int]]:
    """How many statements each operation sends to the servers: with one server, and with replicas."""
    url = cluster.primary_url("postgresql+asyncpg")
    replicas = cluster.replica_urls("postgresql+asyncpg")
    return [
        (name, one, several)
        for (name, one), (_name, several) in zip(
            await _counted(url, []), await _counted(url, replicas), strict=True
        )
    ]


async def _counted(url: object, replicas: Sequence[object]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    async with Database(url, replicas=replicas, name="counted", fastest_lane="session") as db:  # type: ignore[arg-type]  # as SQLAlchemy's
        counters = Repository[Counter](db)
        await counters.get(1)
        async with db.transaction(read_only=True):
            await counters.get(1)
        sent: list[str] = []
        engines = [db.source.engines, *(db.source.servers.replica_engines() if db.source.servers else ())]
        for each in engines:
            engine = each.here().engine.sync_engine
            event.listen(engine, "before_cursor_execute", lambda *sending: sent.append(sending[2]))
            event.listen(engine, "commit", lambda _connection: sent.append("COMMIT"))

        async def write() -> None:
            async with db.transaction():
                await counters.where(Counter.id == 1).update(number=Counter.number + 1)

        async def block() -> None:
            async with db.transaction(read_only=True):
                await counters.get(1)

        async def get() -> None:
            await counters.get(1)

        for name, work in (("get by key", get), ("read-only block", block), ("write", write)):
            sent.clear()
            await work()
            found.append((name, len(sent)))
    return found


def report(costs: Costs, client: tuple[float, float], counted: list[tuple[str, int, int]]) -> str:
    """The tables of the page."""
    chosen, hand = client
    lines = ["| operation | statements, one server | with replicas |", "|---|---|---|"]
    lines += [f"| {name} | {one} | {several} |" for name, one, several in counted]
    lines += ["", "| what | µs of a core |", "|---|---|"]
    for name, seconds in (
        ("read, on a replica", costs.read),
        ("write, on the primary", costs.write),
        ("its replay, on each replica", costs.replay),
        ("a question about a position", costs.question),
    ):
        lines.append(f"| {name} | {seconds * 1e6:.0f} |")
    lines += [
        f"| choosing a server, in the client | {chosen:.1f} |",
        f"| a get by key written by hand, in the client | {hand:.0f} |",
        "",
        f"| replicas | {' | '.join(f'{writes:,} writes/s' for writes in WRITES_PER_S)} |",
        f"|---|{'---|' * len(WRITES_PER_S)}",
    ]
    for replicas in REPLICAS:
        cells = (f"{costs.reads_per_s(replicas, writes):,.0f}" for writes in WRITES_PER_S)
        lines.append(f"| {replicas} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def main() -> None:
    """Measure, calculate, print."""
    with closing(start_replication()) as cluster:
        measured_costs = await costs(cluster)
        print(report(measured_costs, await choosing(cluster), await messages(cluster)))


if __name__ == "__main__":
    asyncio.run(main())
