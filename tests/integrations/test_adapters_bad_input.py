"""What every adapter says when it is given something that is no Database."""

from collections.abc import Callable
from typing import Any

import pytest

from unitwork import OptionError
from unitwork.integrations.asgi import UnitOfWorkMiddleware
from unitwork.integrations.faststream import UnitOfWorkMiddleware as FastStreamMiddleware
from unitwork.integrations.grpc import UnitOfWorkInterceptor
from unitwork.integrations.litestar import UnitworkPlugin
from unitwork.integrations.strawberry import UnitOfWorkExtension
from unitwork.integrations.taskiq import UnitOfWorkMiddleware as TaskiqMiddleware


async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
    """Serves nothing."""


def asgi(database: Any) -> object:  # noqa: ANN401 - wrong on purpose
    """The ASGI middleware around an application."""
    return UnitOfWorkMiddleware(application, database=database)


ADAPTERS = {
    "asgi": asgi,
    "litestar": UnitworkPlugin,
    "taskiq": TaskiqMiddleware,
    "faststream": FastStreamMiddleware,
    "grpc": UnitOfWorkInterceptor,
    "strawberry": UnitOfWorkExtension,
}


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("wrong", ["sqlite://", None, [], ["sqlite://"]])
def test_only_databases_are_taken(adapter: Callable[[Any], object], wrong: object) -> None:
    """One clear error when the program starts, not at its first message."""
    with pytest.raises(OptionError, match=r"database does not take .*\n.*use a Database or a list of some"):
        adapter(wrong)
