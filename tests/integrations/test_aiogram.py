"""aiogram, in an environment of its own, since it does not go with the newest pydantic."""

import pytest

from tests.fixtures.apart import run_apart
from tests.fixtures.servers import Servers


# The first run downloads and installs the packages; to import aiogram alone takes seconds.
@pytest.mark.timeout(300)
def test_updates(servers: Servers, pytestconfig: pytest.Config) -> None:
    """Every promise about updates holds with the real package, on each database that was asked for."""
    run_apart("aiogram", "aiogram_updates.py", servers, pytestconfig)
