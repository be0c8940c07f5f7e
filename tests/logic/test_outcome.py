"""What the end of a block means: the whole product of exception, options and marks."""

from itertools import product

import pytest

from unitwork import NoRowError, TooManyRowsError
from unitwork._logic.outcome import Marks, Verdict, rolls_back, verdict_for_joined, verdict_for_owner
from unitwork.options import TransactionOptions


class ShopError(Exception):
    """A base that rules name."""


class StockError(ShopError):
    """Below it."""


class EmptyStockError(StockError):
    """And below that."""


class TaxedError(StockError, ValueError):
    """Of two families."""


PLAIN = TransactionOptions()
FORGIVING = TransactionOptions(no_rollback_for=(ShopError,))
MARKS = [Marks(condemned=c, rollback_only=r, joiners=j) for c, r, j in product((False, True), repeat=3)]


@pytest.mark.parametrize(
    ("raised", "undo", "keep", "expected"),
    [
        (ShopError, (), (), True),
        (ShopError, (), (ShopError,), False),
        (StockError, (), (ShopError,), False),
        (EmptyStockError, (), (ShopError,), False),
        (ShopError, (), (StockError,), True),
        (StockError, (StockError,), (ShopError,), True),
        (EmptyStockError, (StockError,), (ShopError,), True),
        (EmptyStockError, (ShopError,), (StockError,), False),
        (EmptyStockError, (ShopError, EmptyStockError), (StockError,), True),
        (StockError, (ShopError, EmptyStockError), (StockError,), False),
        (StockError, (StockError,), (StockError,), True),
        (StockError, (Exception,), (ShopError,), False),
        (StockError, (ShopError,), (Exception,), True),
        (StockError, (BaseException,), (Exception,), False),
        (ValueError, (ShopError,), (ShopError,), True),
        (ValueError, (ShopError,), (), True),
        (TaxedError, (), (ValueError,), False),
        (TaxedError, (StockError,), (StockError,), True),
    ],
)
def test_rule_nearest_in_the_hierarchy_decides(
    raised: type[Exception],
    undo: tuple[type[BaseException], ...],
    keep: tuple[type[BaseException], ...],
    *,
    expected: bool,
) -> None:
    """Of all rules that name the class or a base, the nearest decides; ties roll back."""
    options = TransactionOptions(rollback_for=undo, no_rollback_for=keep)

    assert rolls_back(raised(), options) is expected


def test_rule_tie_of_two_bases_rolls_back() -> None:
    """Two bases that are equally near, one with each rule, are a tie: it rolls back."""
    options = TransactionOptions(rollback_for=(ValueError,), no_rollback_for=(StockError,))

    assert rolls_back(TaxedError(), options)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_rule_cannot_keep_what_is_not_an_exception(raised: type[BaseException]) -> None:
    """What is not an `Exception` always rolls back, whatever the rules say."""
    options = TransactionOptions(no_rollback_for=(BaseException, raised))

    assert rolls_back(raised(), options)


def test_rule_does_not_look_into_groups() -> None:
    """A group is of its own class: rules for what it holds do not name it."""
    options = TransactionOptions(no_rollback_for=(ShopError,))

    assert rolls_back(ExceptionGroup("several", [ShopError()]), options)


@pytest.mark.parametrize("marks", MARKS)
def test_owner_that_returns_commits_only_without_marks(marks: Marks) -> None:
    """Without an exception: commit; its own mark is silent; any other raises."""
    verdict = verdict_for_owner(None, PLAIN, marks)

    if marks.rollback_only:
        assert verdict is Verdict.ROLL_BACK
    elif marks.condemned or marks.joiners:
        assert verdict is Verdict.ROLL_BACK_AND_RAISE
    else:
        assert verdict is Verdict.COMMIT


@pytest.mark.parametrize("marks", MARKS)
def test_owner_that_raises_rolls_back(marks: Marks) -> None:
    """An exception that leaves the owner rolls back and wins over all marks."""
    assert verdict_for_owner(ShopError(), PLAIN, marks) is Verdict.ROLL_BACK


@pytest.mark.parametrize("marks", MARKS)
def test_owner_that_raises_what_does_not_roll_back_commits_only_without_marks(marks: Marks) -> None:
    """A forgiven exception commits, or does not come out as if it had."""
    asked = Verdict.ROLL_BACK if marks.rollback_only else Verdict.ROLL_BACK_AND_RAISE
    expected = Verdict.COMMIT if marks == Marks() else asked

    assert verdict_for_owner(ShopError(), FORGIVING, marks) is expected


@pytest.mark.parametrize(
    ("error", "options", "expected"),
    [
        (None, PLAIN, Verdict.LEAVE),
        (ShopError(), PLAIN, Verdict.CONDEMN),
        (ShopError(), FORGIVING, Verdict.LEAVE),
        (ValueError(), FORGIVING, Verdict.CONDEMN),
        (KeyboardInterrupt(), FORGIVING, Verdict.CONDEMN),
        (NoRowError("Users.by_email"), PLAIN, Verdict.LEAVE),
        (TooManyRowsError("Users.by_email"), PLAIN, Verdict.LEAVE),
    ],
)
def test_joined_block_condemns_when_it_ends_with_what_rolls_back(
    error: BaseException | None, options: TransactionOptions, expected: Verdict
) -> None:
    """A joined block condemns by an exception that rolls back; a wrong number of rows condemns nothing."""
    assert verdict_for_joined(error, options) is expected
