"""fastapi-users, in an environment of its own, since its tables need SQLAlchemy 2.0."""

import pytest

from tests.fixtures.apart import run_apart
from tests.fixtures.servers import Servers


# The first run downloads and installs the packages.
@pytest.mark.timeout(300)
def test_accounts(servers: Servers, pytestconfig: pytest.Config) -> None:
    """Register, login and me work with the real package, on each database that was asked for."""
    run_apart("fastapi-users", "fastapi_users_accounts.py", servers, pytestconfig)
