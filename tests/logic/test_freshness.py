"""A task reads only from servers that have all that it has written and read."""

import gc
from dataclasses import dataclass

from unitwork._logic.freshness import Seen
from unitwork._logic.positions import Position


class Task:
    """Stands for a task: what belongs to one is found by it."""


@dataclass(eq=False)
class Replica:
    """A replica that has all that was committed before a moment."""

    as_of: float
    position: Position | None = None


def test_task_that_has_done_nothing_reads_anywhere() -> None:
    """Task that has done nothing reads anywhere."""
    assert Seen(Task()).may_read(Replica(as_of=float("-inf")))


def test_what_was_written_must_have_been_replayed() -> None:
    """What was written must have been replayed."""
    seen = Seen(Task())
    seen.wrote(10)

    assert not seen.may_read(Replica(as_of=9.9))
    assert seen.may_read(Replica(as_of=10))


def test_what_was_read_from_the_primary_must_have_been_replayed() -> None:
    """What was read from the primary must have been replayed."""
    seen = Seen(Task())
    seen.read_latest(10)

    assert not seen.may_read(Replica(as_of=9))


def test_replica_that_was_read_from_never_becomes_older() -> None:
    """It may be late, and yet has what it had; another one must have caught up with the read."""
    seen, first, second = Seen(Task()), Replica(as_of=3), Replica(as_of=9)
    seen.read(first, 10)

    assert seen.may_read(first)
    assert not seen.may_read(second)

    second.as_of = 10
    seen.read(second, 11)
    assert not seen.may_read(first)


def test_child_has_seen_what_its_parent_has() -> None:
    """Child has seen what its parent has."""
    parent = Seen(Task())
    parent.wrote(10)

    assert not Seen(Task(), parent).may_read(Replica(as_of=9))


def test_parent_sees_what_its_children_write_and_siblings_do_not() -> None:
    """Parent sees what its children write and siblings do not."""
    parent = Seen(Task())
    child, sibling = Seen(Task(), parent), Seen(Task(), parent)
    grandchild = Seen(Task(), child)
    grandchild.wrote(10)

    old = Replica(as_of=9)
    assert (parent.may_read(old), child.may_read(old), sibling.may_read(old)) == (False, False, True)


def test_parent_never_reads_less_than_its_children_have_read() -> None:
    """What a child has read, who has started it reads too."""
    parent = Seen(Task())
    Seen(Task(), parent).read(Replica(as_of=9), 10)

    assert not parent.may_read(Replica(as_of=9))


def test_no_other_replica_is_read_while_one_is_open() -> None:
    """A block, or a stream, goes on to show what it shows."""
    seen, first, second = Seen(Task()), Replica(as_of=3), Replica(as_of=50)
    seen.opened(first)

    assert seen.may_read(first)
    assert not seen.may_read(second)

    seen.closed(first, 10)
    assert seen.may_read(second)


def test_grandparent_sees_it_when_the_task_between_is_gone() -> None:
    """Grandparent sees it when the task between is gone."""
    parent = Seen(Task())
    child = Seen(Task(), parent)
    grandchild = Seen(Task(), child)
    del child
    gc.collect()
    grandchild.wrote(10)

    assert not parent.may_read(Replica(as_of=9))


def test_position_that_was_brought_is_read_once_and_only_when_it_is_needed() -> None:
    """Position that was brought is read once and only when it is needed."""
    read: list[str] = []

    def brought() -> Position:
        read.append("read")
        return Position.of({"wal": 7})

    seen = Seen(Task(), None, brought)
    assert read == []

    assert not seen.may_read(Replica(as_of=0, position=Position.of({"wal": 6})))
    assert seen.may_read(Replica(as_of=0, position=Position.of({"wal": 7})))
    assert not seen.may_read(Replica(as_of=0))
    assert read == ["read"]


def test_request_begins_with_what_it_brings_alone() -> None:
    """What the code around has seen is not the client's."""
    around = Seen(Task())
    around.wrote(10)
    request = Seen(Task(), around, lambda: None)

    assert request.may_read(Replica(as_of=0))
    request.wrote(20)
    assert not around.may_read(Replica(as_of=15))
