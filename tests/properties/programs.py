"""Random transaction programs: what they are made of, and how hypothesis makes them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from hypothesis import strategies as st

from tests.fixtures.errors import ShopError, StockError
from unitwork import NoRowError, Propagation


class Stop(BaseException):
    """Is not an `Exception`."""


class Act(Enum):
    """One thing that a body does."""

    INSERT = auto()
    """A statement that writes a row."""
    ADD = auto()
    """An entity, flushed."""
    READ = auto()
    """A statement that reads."""
    DUPLICATE = auto()
    """A flush that the database refuses."""
    NONSENSE = auto()
    """A statement that the database refuses."""
    ROLLBACK_ONLY = auto()
    ON_COMMIT = auto()
    ON_COMMIT_FAILING = auto()
    ON_ROLLBACK = auto()
    BEFORE_COMMIT = auto()


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise an exception of this class."""

    error: type[BaseException]

    def made(self) -> BaseException:
        """The exception."""
        return NoRowError("Users.one") if self.error is NoRowError else self.error()


@dataclass(frozen=True, slots=True)
class Catch:
    """Go on whatever `Exception` comes out of this body."""

    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A transaction block."""

    propagation: Propagation
    read_only: bool
    durable: bool
    rules: int
    body: tuple[Step, ...]


Step = Act | Raise | Catch | Block

RULES: tuple[tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]], ...] = (
    ((), ()),
    ((), (ShopError,)),
    ((), (StockError,)),
    ((StockError,), (ShopError,)),
    ((ShopError,), (StockError,)),
    ((ShopError,), (ShopError,)),
)
"""Each is `rollback_for` and `no_rollback_for`."""


def programs() -> st.SearchStrategy[Block]:
    """Programs of blocks in blocks."""
    raises = st.builds(Raise, st.sampled_from([ShopError, StockError, NoRowError, Stop]))
    simple = st.one_of(st.sampled_from(Act), st.sampled_from([Act.INSERT, Act.ADD]), raises)

    def deeper(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
        bodies = st.lists(steps, max_size=5).map(tuple)
        return st.one_of(blocks(bodies), st.builds(Catch, bodies), steps)

    steps: st.SearchStrategy[Step] = st.recursive(simple, deeper, max_leaves=14)
    return blocks(st.lists(steps, min_size=1, max_size=6).map(tuple))


def blocks(bodies: st.SearchStrategy[tuple[Step, ...]]) -> st.SearchStrategy[Block]:
    """Blocks around such bodies; the usual options come more often."""
    often = st.sampled_from([Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
    seldom = st.integers(0, 7).map(lambda number: number == 7)
    return st.builds(
        Block,
        propagation=st.one_of(often, st.sampled_from(Propagation)),
        read_only=seldom,
        durable=seldom,
        rules=st.sampled_from([0, 0, 0, *range(len(RULES))]),
        body=bodies,
    )
