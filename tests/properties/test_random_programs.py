"""Random programs do on every database what a small model of the promises says.

A program comes from a seed, and a failure prints it as code, as small as it could be made. To run
one again: `UNITWORK_PROGRAMS=1234 pytest tests/properties/test_random_programs.py`; a range is
`UNITWORK_PROGRAMS=1000:2000`.
"""

import os
import random

import pytest

from tests.fixtures.pairs import Fresh
from tests.properties.bench import Bench

CHUNKS, IN_A_CHUNK = 10, 100
"""1,000 programs for each database."""

SOAKING_CHUNKS, IN_A_SOAKING_CHUNK = 50, 1000
"""50,000 programs for each database."""

STEP = 1_000_000
"""From the first seed of a chunk to that of the next."""


def agree(fresh: Fresh, seeds: range, wanted: int) -> None:
    """Run programs, and fail with the first one that does not do what the model says."""
    with Bench(fresh) as bench:
        wrong = bench.first_wrong(seeds, wanted)
        if wrong is not None:
            pytest.fail(f"\n{wrong}", pytrace=False)
        assert bench.left_out <= max(bench.ran, 5), "the model says too seldom what is promised"


def _asked() -> range | None:
    """The seeds that somebody asks for."""
    first, _, last = os.environ.get("UNITWORK_PROGRAMS", "").partition(":")
    return range(int(first), int(last) if last else int(first) + 1) if first else None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS) if _asked() is None else ["asked"])
def test_random_program_does_what_the_model_says(two_databases: Fresh, chunk: int) -> None:
    """Rows, exceptions, hooks and the end of each block agree, whatever is nested and whatever strikes."""
    asked = _asked()
    if asked is not None:
        agree(two_databases, asked, len(asked))
    else:
        agree(two_databases, range(chunk * STEP, (chunk + 1) * STEP), IN_A_CHUNK)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAKING_CHUNKS))
def test_unseen_program_does_what_the_model_says(two_databases: Fresh, chunk: int) -> None:
    """The same, with programs that nobody has seen before."""
    del chunk
    first = random.SystemRandom().randrange(CHUNKS * STEP, 2**40)
    agree(two_databases, range(first, first + STEP), IN_A_SOAKING_CHUNK)
