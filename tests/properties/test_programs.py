"""The programs and the model are worth something: they have all that they should have."""

from collections import Counter

import pytest
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

from tests.properties.making import program_of, smaller
from tests.properties.model import Surroundings, outcomes
from tests.properties.opened import strays
from tests.properties.programs import (
    Act,
    Begun,
    Block,
    Blow,
    Catch,
    Do,
    Early,
    FreshRead,
    Hook,
    Raise,
    Savepoint,
    Spawn,
    Unit,
    code,
    steps_in,
)
from tests.properties.world import Unspecified

SEEDS = range(1500)
AT_LEAST = 5
KINDS = (Begun, Block, Catch, Early, FreshRead, Hook, Raise, Savepoint, Spawn, Unit)


@pytest.mark.parametrize("one_writer", [False, True])
def test_programs_that_are_compared_have_everything(*, one_writer: bool) -> None:
    """Each kind of step and each act is in programs of which the model says what is promised."""
    seen: Counter[object] = Counter()
    compared = 0
    for seed in SEEDS:
        program = program_of(seed)
        try:
            list(outcomes(program, Surroundings(one_writer=one_writer, ddl_commits=False)))
        except Unspecified:
            continue
        compared += 1
        seen.update({step.act if isinstance(step, Do) else type(step) for step in steps_in(program)})
        if program.strike is not None:
            seen[program.strike.blow] += 1
    seldom = [kind for kind in (*KINDS, *Act, *Blow) if seen[kind] < AT_LEAST]
    assert seldom == []
    assert compared > len(SEEDS) * 0.7


def test_program_of_a_seed_is_always_the_same() -> None:
    """What a failure names can be run again."""
    assert [program_of(seed) for seed in range(50)] == [program_of(seed) for seed in range(50)]


def test_smaller_programs_are_smaller() -> None:
    """Making a program smaller comes to an end."""
    for seed in range(30):
        program = program_of(seed)
        for less in smaller(program):
            assert less != program
            assert code(less) != code(program)
            assert len(list(steps_in(less))) <= len(list(steps_in(program)))


async def test_connection_that_no_pool_has_is_counted(database_url: URL) -> None:
    """Programs are told of a connection that they lose."""
    engine = create_async_engine(database_url)
    before = strays([engine])

    async with engine.connect():
        lost = strays([engine])

    assert (lost, strays([engine])) == (before + 1, before)
    await engine.dispose()
