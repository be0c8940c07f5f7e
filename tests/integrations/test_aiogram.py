"""aiogram, in an environment of its own, since it does not go with the newest pydantic."""

import os
import subprocess
import sys

import pytest

from tests.fixtures.apart import ROOT, path_with
from tests.fixtures.databases import BACKENDS
from tests.fixtures.selection import backends_called
from tests.fixtures.servers import SOURCES, Servers

TESTS = ROOT / "tests" / "integrations" / "apart" / "aiogram_updates.py"


# The first run downloads and installs the packages; to import aiogram alone takes seconds.
@pytest.mark.timeout(300)
def test_updates(servers: Servers, pytestconfig: pytest.Config) -> None:
    """Every promise about updates holds with the real package, on each database that was asked for."""
    names: list[str] = pytestconfig.getoption("database") or list(BACKENDS)
    environment = {**os.environ, "PYTHONPATH": path_with("aiogram", ROOT / "src")}
    for database in {backend.database for name in names for backend in backends_called(name)} & set(SOURCES):
        source = SOURCES[database]
        if not source.missing:
            url = servers.admin_url(database)
            environment[source.variable] = url.render_as_string(hide_password=False)
    options = ["-q", "-p", "no:cacheprovider", *(f"--database={name}" for name in names)]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(TESTS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )

    assert done.returncode == 0, done.stdout + done.stderr
