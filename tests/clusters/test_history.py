"""The judge of histories accepts what a database may do, and finds each thing that it must not."""

from collections.abc import Mapping, Sequence

import pytest

from tests.clusters.history import History, Outcome, Read, Write, Wrong, findings

Story = Sequence[Write | Read]
End = Mapping[str, Sequence[str]]


def w(client: str, value: str, began: int, ended: int, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Write:
    """A write; the letters of its value are its key."""
    key = value.rstrip("0123456789")
    return Write(client=client, key=key, value=value, began=began, ended=ended, outcome=outcome)


def r(client: str, key: str, values: str, began: int, ended: int) -> Read:
    """A read that is told these values, with blanks between."""
    return Read(client=client, key=key, values=tuple(values.split()), began=began, ended=ended)


def fresh(client: str, key: str, values: str, began: int, ended: int) -> Read:
    """A read that asked for what is newest."""
    return Read(client=client, key=key, values=tuple(values.split()), began=began, ended=ended, fresh=True)


ACCEPTED: list[tuple[str, Story, End]] = [
    ("nothing", [], {}),
    ("own write read", [w("a", "x1", 0, 1), r("a", "x", "x1", 2, 3)], {"x": ["x1"]}),
    ("another's write not seen", [w("a", "x1", 0, 1), r("b", "x", "", 2, 3)], {"x": ["x1"]}),
    ("a read beside the write does not show it", [w("a", "x1", 0, 3), r("a", "x", "", 1, 2)], {"x": ["x1"]}),
    ("a read beside the write shows it", [w("a", "x1", 0, 3), r("b", "x", "x1", 1, 2)], {"x": ["x1"]}),
    (
        "reads beside each other",
        [w("a", "x1", 0, 1), r("b", "x", "x1", 2, 5), r("b", "x", "", 3, 4)],
        {"x": ["x1"]},
    ),
    ("unknown and there", [w("a", "x1", 0, 1, Outcome.UNKNOWN), r("a", "x", "x1", 2, 3)], {"x": ["x1"]}),
    ("unknown and not there", [w("a", "x1", 0, 1, Outcome.UNKNOWN), r("a", "x", "", 2, 3)], {}),
    ("failed and not there", [w("a", "x1", 0, 1, Outcome.FAILED), r("a", "x", "", 2, 3)], {"x": []}),
    (
        "unknown, shown late",
        [w("a", "x1", 0, 1, Outcome.UNKNOWN), r("a", "x", "", 2, 3), r("a", "x", "x1", 4, 5)],
        {"x": ["x1"]},
    ),
    (
        "order of values",
        [w("a", "x1", 0, 1), w("b", "x2", 0, 2), r("a", "x", "x2 x1", 3, 4)],
        {"x": ["x1", "x2"]},
    ),
    (
        "two keys, the other is newer",
        [w("a", "x1", 0, 1), w("a", "y1", 2, 3), r("b", "x", "x1", 4, 5), r("b", "y", "", 6, 7)],
        {"x": ["x1"], "y": ["y1"]},
    ),
    (
        "two keys written at once",
        [w("a", "x1", 0, 2), w("b", "y1", 1, 3), r("c", "y", "y1", 4, 5), r("c", "x", "", 6, 7)],
        {"x": ["x1"], "y": ["y1"]},
    ),
    ("fresh", [w("a", "x1", 0, 1), fresh("b", "x", "x1", 2, 3)], {"x": ["x1"]}),
    ("fresh beside the write", [w("a", "x1", 0, 3), fresh("b", "x", "", 1, 4)], {"x": ["x1"]}),
]

FORGOTTEN = Read(client="b", key="x", values=("x1",), began=2, ended=3, forgotten=True)
ACCEPTED.append(
    ("read by a task", [w("a", "x1", 0, 1), FORGOTTEN, r("b", "x", "", 4, 5)], {"x": ["x1"]}),
)

REJECTED: list[tuple[Wrong, str, Story, End]] = [
    (Wrong.LOST, "x1", [w("a", "x1", 0, 1)], {}),
    (Wrong.LOST, "x1", [w("a", "x1", 0, 1), w("a", "x2", 2, 3)], {"x": ["x2"]}),
    (Wrong.DOUBLED, "x1", [w("a", "x1", 0, 1)], {"x": ["x1", "x1"]}),
    (Wrong.DOUBLED, "x1", [w("a", "x1", 0, 1, Outcome.UNKNOWN)], {"x": ["x1", "x1"]}),
    (Wrong.DOUBLED, "x1", [w("a", "x1", 0, 1), r("b", "x", "x1 x1", 2, 3)], {"x": ["x1"]}),
    (Wrong.RISEN, "x1", [w("a", "x1", 0, 1, Outcome.FAILED)], {"x": ["x1"]}),
    (Wrong.INVENTED, "x9", [], {"x": ["x9"]}),
    (Wrong.INVENTED, "x1", [r("a", "x", "x1", 0, 1), w("a", "x1", 2, 3)], {"x": ["x1"]}),
    (Wrong.VANISHED, "x1", [w("a", "x1", 0, 1, Outcome.UNKNOWN), r("b", "x", "x1", 2, 3)], {}),
    (Wrong.OWN, "x1", [w("a", "x1", 0, 1), r("a", "x", "", 2, 3)], {"x": ["x1"]}),
    (Wrong.OWN, "x2", [w("a", "x1", 0, 1), w("a", "x2", 2, 3), r("a", "x", "x1", 4, 5)], {"x": ["x1", "x2"]}),
    (
        Wrong.BACKWARDS,
        "x1",
        [w("a", "x1", 0, 1), r("b", "x", "x1", 2, 3), r("b", "x", "", 4, 5)],
        {"x": ["x1"]},
    ),
    (
        Wrong.BACKWARDS,
        "x1",
        [w("a", "x1", 0, 9), r("b", "x", "x1", 2, 3), r("b", "x", "", 4, 5)],
        {"x": ["x1"]},
    ),
    (
        Wrong.OLDER,
        "x1",
        [w("a", "x1", 0, 1), w("a", "y1", 2, 3), r("b", "y", "y1", 4, 5), r("b", "x", "", 6, 7)],
        {"x": ["x1"], "y": ["y1"]},
    ),
    (
        Wrong.OLDER,
        "x1",
        [w("a", "x1", 0, 1), w("b", "y1", 2, 3), r("b", "x", "", 6, 7)],
        {"x": ["x1"], "y": ["y1"]},
    ),
    (Wrong.BEHIND, "x1", [w("a", "x1", 0, 1), fresh("b", "x", "", 2, 3)], {"x": ["x1"]}),
]


@pytest.mark.parametrize(("story", "end"), [pytest.param(s, e, id=name) for name, s, e in ACCEPTED])
def test_history_is_accepted(story: Story, end: End) -> None:
    """What a database may do is not called wrong."""
    assert findings(story, end) == []


@pytest.mark.parametrize(("wrong", "value", "story", "end"), REJECTED)
def test_history_is_rejected(wrong: Wrong, value: str, story: Story, end: End) -> None:
    """What it must not do is found, and nothing else."""
    found = findings(story, end)

    assert {(each.wrong, each.values) for each in found} == {(wrong, (value,))}
    assert wrong.value in str(found[0])


def test_everything_wrong_has_a_history() -> None:
    """No finding exists that no history has been seen to give."""
    assert {wrong for wrong, *_ in REJECTED} == set(Wrong)


def test_one_wrong_read_of_many_is_found() -> None:
    """Among twenty thousand operations of 200 clients, the one read that is wrong is found."""
    history = History()
    stored: dict[str, list[str]] = {}
    for number in range(20_000):
        client, key = f"client {number % 200}", f"key {number * 7 % 199}"
        began = history.now()
        values = stored.setdefault(key, [])
        if number % 2:
            values.append(f"{number}")
            history.wrote(client, key, values[-1], began, Outcome.ACKNOWLEDGED)
        else:
            history.read(client, key, values, began=began, fresh=True)
    began = history.now()
    key = history.writes[0].key
    history.read(history.writes[0].client, key, stored[key][1:], began=began)

    found = history.findings(stored)

    assert len(history) == 20_001
    assert {each.wrong for each in found} <= {Wrong.OWN, Wrong.OLDER, Wrong.BACKWARDS}
    assert len(found) == 1
