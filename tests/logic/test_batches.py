"""Rows are cut into batches: none is lost, none comes twice, none is read too early."""

from hypothesis import given
from hypothesis import strategies as st

from unitwork._logic.batches import light_portions, rows_that_fit, runs_without_repeats, sliced


@given(st.lists(st.integers()), st.integers(1, 10))
def test_sliced_keeps_every_row_in_order(rows: list[int], size: int) -> None:
    """Together the batches are the rows, and none is longer than allowed."""
    batches = list(sliced(iter(rows), size))

    assert [row for batch in batches for row in batch] == rows
    assert all(0 < len(batch) <= size for batch in batches)


@given(st.integers(1, 10_000), st.integers(0, 100), st.integers(1, 40_000))
def test_rows_that_fit_stay_under_the_limit(wanted: int, values: int, limit: int) -> None:
    """As many rows as are wanted, unless their values were too many; at least one."""
    rows = rows_that_fit(wanted, values, limit)

    assert 1 <= rows <= wanted
    assert rows * values <= limit or rows == 1
    assert rows_that_fit(wanted, values, None) == wanted


@given(st.lists(st.integers(0, 5)))
def test_runs_hold_no_key_twice(keys: list[int]) -> None:
    """The runs follow each other without a gap, and each is as long as can be."""
    runs = list(runs_without_repeats(keys))

    assert [key for start, stop in runs for key in keys[start:stop]] == keys
    assert all(len(set(keys[start:stop])) == stop - start for start, stop in runs)
    assert all(keys[stop] in keys[start:stop] for start, stop in runs[:-1])


@given(
    st.lists(st.sampled_from(["", "x" * 100_000, "y" * 2_000_000, None]), max_size=20),
    st.none() | st.integers(1, 5),
)
def test_portions_are_light(texts: list[str | None], most: int | None) -> None:
    """No row is lost, the order stays, and a portion is short, or one row that is long by itself."""
    numbers = list(range(len(texts)))
    portions = list(light_portions([texts, numbers], len(texts), most))

    assert [place for start, stop in portions for place in range(start, stop)] == numbers
    for start, stop in portions:
        assert stop - start <= (most or len(texts))
        assert stop - start == 1 or sum(len(text or "") for text in texts[start:stop]) <= 3_000_000
