"""One Database for each lane, whose stories are compared."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from sqlalchemy import URL

from unitwork import Database
from unitwork.options import Lane


@contextmanager
def one_for_each_lane(url: URL) -> Iterator[tuple[asyncio.Runner, list[Database]]]:
    """Lend a loop to run in, and a Database for each lane, the fastest first."""
    with asyncio.Runner() as runner:
        databases = [Database(url, name=lane.value, fastest_lane=lane) for lane in Lane]
        try:
            yield runner, databases
        finally:
            for db in databases:
                runner.run(db.dispose())


def examples(most: int) -> settings:
    """Return the settings of a comparison; where CI runs it, the examples are always the same."""
    return settings(
        max_examples=most,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
