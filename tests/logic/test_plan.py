"""What entering a block does: the whole product of propagation and transaction open or not."""

from itertools import product

import pytest

from unitwork import Isolation, Propagation
from unitwork._logic.plan import Refusal, Step, Surroundings, next_step, next_step_at_rest, refusal
from unitwork.options import TransactionOptions

P = Propagation

# Written from Spring's documentation, not from the code.
SPRING = {
    (P.REQUIRED, False): Step.BEGIN,
    (P.REQUIRED, True): Step.JOIN,
    (P.REQUIRES_NEW, False): Step.BEGIN,
    (P.REQUIRES_NEW, True): Step.BEGIN_APART,
    (P.NESTED, False): Step.BEGIN,
    (P.NESTED, True): Step.SAVEPOINT,
    (P.SUPPORTS, False): Step.PLAIN,
    (P.SUPPORTS, True): Step.JOIN,
    (P.NOT_SUPPORTED, False): Step.PLAIN,
    (P.NOT_SUPPORTED, True): Step.PLAIN_APART,
    (P.MANDATORY, False): Step.REFUSE,
    (P.MANDATORY, True): Step.JOIN,
    (P.NEVER, False): Step.PLAIN,
    (P.NEVER, True): Step.REFUSE,
}
HEALTHY = Surroundings(owner="shop.outer", isolation=None, condemned_by=None)
CONDEMNED = Surroundings(owner="shop.outer", isolation=None, condemned_by="shop.broken")
SERIALIZABLE = Surroundings(owner="shop.outer", isolation=Isolation.SERIALIZABLE, condemned_by=None)


def refused(around: Surroundings | None, propagation: Propagation, **options: object) -> Refusal | None:
    """What a block with these options is told when it enters these surroundings."""
    asked = TransactionOptions(propagation=propagation, **options)  # type: ignore[arg-type]  # given by name
    return refusal("shop.inner", asked, next_step(propagation, active=around is not None), around)


@pytest.mark.parametrize(("propagation", "active"), list(product(Propagation, (True, False))))
def test_plan_takes_the_step_that_spring_takes(propagation: Propagation, *, active: bool) -> None:
    """Each of the seven propagations does what it does in Spring, with and without a transaction."""
    assert next_step(propagation, active=active) is SPRING[propagation, active]


@pytest.mark.parametrize(("propagation", "active"), list(product(Propagation, (True, False))))
def test_plan_refuses_only_mandatory_without_and_never_with(
    propagation: Propagation, *, active: bool
) -> None:
    """In healthy surroundings and with default options nothing but these two is refused."""
    told = refused(HEALTHY if active else None, propagation)

    wrong = (propagation is P.MANDATORY and not active) or (propagation is P.NEVER and active)
    assert (told is not None) is wrong


@pytest.mark.parametrize("propagation", list(Propagation))
def test_plan_refuses_durable_inside_any_transaction(propagation: Propagation) -> None:
    """A durable block is outermost, whatever its propagation."""
    assert refused(HEALTHY, propagation, durable=True) is not None


@pytest.mark.parametrize("propagation", [p for p in Propagation if p is not P.MANDATORY])
def test_plan_accepts_durable_as_outermost(propagation: Propagation) -> None:
    """A durable block that is outermost is entered."""
    assert refused(None, propagation, durable=True) is None


@pytest.mark.parametrize("propagation", [P.REQUIRED, P.SUPPORTS, P.MANDATORY, P.NESTED])
def test_plan_refuses_another_isolation_when_the_transaction_is_shared(propagation: Propagation) -> None:
    """Whoever joins or nests cannot change the isolation of a transaction that runs."""
    assert refused(SERIALIZABLE, propagation, isolation=Isolation.READ_COMMITTED) is not None


@pytest.mark.parametrize("propagation", [P.REQUIRED, P.SUPPORTS, P.MANDATORY, P.NESTED])
@pytest.mark.parametrize("isolation", [None, Isolation.SERIALIZABLE])
def test_plan_accepts_absent_or_equal_isolation_when_the_transaction_is_shared(
    propagation: Propagation, isolation: Isolation | None
) -> None:
    """Absent or equal isolation fits."""
    assert refused(SERIALIZABLE, propagation, isolation=isolation) is None


@pytest.mark.parametrize("propagation", [P.REQUIRES_NEW, P.NOT_SUPPORTED])
def test_plan_accepts_another_isolation_apart(propagation: Propagation) -> None:
    """A block that suspends the outer transaction chooses its own isolation."""
    assert refused(SERIALIZABLE, propagation, isolation=Isolation.READ_COMMITTED) is None


@pytest.mark.parametrize("propagation", [p for p in Propagation if p is not P.NEVER])
def test_plan_refuses_a_savepoint_in_a_condemned_transaction(propagation: Propagation) -> None:
    """NESTED in a condemned transaction is refused; the others may enter."""
    assert (refused(CONDEMNED, propagation) is not None) is (propagation is P.NESTED)


@pytest.mark.parametrize(
    ("around", "propagation", "options"),
    [
        (None, P.MANDATORY, {}),
        (HEALTHY, P.NEVER, {}),
        (HEALTHY, P.REQUIRED, {"durable": True}),
        (HEALTHY, P.REQUIRED, {"isolation": Isolation.SERIALIZABLE}),
        (CONDEMNED, P.NESTED, {}),
    ],
)
def test_refusal_names_the_block_and_a_fix(
    around: Surroundings | None, propagation: Propagation, options: dict[str, object]
) -> None:
    """Each refusal is one sentence about the user's block, and one thing to do."""
    told = refused(around, propagation, **options)

    assert told is not None
    assert "shop.inner" in told.sentence
    assert told.sentence.endswith(".")
    assert len(told.sentence) <= 120
    assert told.fix


@pytest.mark.parametrize("propagation", list(Propagation))
def test_block_in_a_unit_at_rest_does_what_it_does_in_its_transaction(propagation: Propagation) -> None:
    """A unit that is one transaction counts as open before its first write; what takes part begins it."""
    begins, step = next_step_at_rest(propagation, only_reads=False)

    assert step is next_step(propagation, active=True)
    assert begins is (step in (Step.JOIN, Step.SAVEPOINT) and propagation is not Propagation.SUPPORTS)


def test_read_only_block_in_a_unit_at_rest_is_a_transaction_of_its_own() -> None:
    """The unit may still write after it."""
    assert next_step_at_rest(Propagation.REQUIRED, only_reads=True) == (False, Step.BEGIN)
    for propagation in set(Propagation) - {Propagation.REQUIRED}:
        assert next_step_at_rest(propagation, only_reads=True) == next_step_at_rest(
            propagation, only_reads=False
        )
