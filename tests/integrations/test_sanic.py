"""Sanic, in an environment of its own, since it does not go with the newest multidict."""

import pytest

from tests.fixtures.apart import run_apart
from tests.fixtures.servers import Servers


# The first run downloads and installs the packages.
@pytest.mark.timeout(300)
def test_requests(servers: Servers, pytestconfig: pytest.Config) -> None:
    """Every promise about requests holds in its ASGI mode, on each database that was asked for."""
    run_apart("sanic", "sanic_requests.py", servers, pytestconfig)
