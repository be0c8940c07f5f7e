"""Plugins of the suite. What each does is told at the top of its module."""

from hypothesis import HealthCheck, settings

# Those that others import come first: pytest cannot rewrite assertions of what is imported.
pytest_plugins = [
    "pytester",
    "tests.fixtures.servers",
    "tests.fixtures.private_servers",
    "tests.fixtures.clusters.postgresql",
    "tests.fixtures.clusters.mariadb",
    "tests.fixtures.clusters.galera",
    "tests.fixtures.databases",
    "tests.fixtures.poolers",
    "tests.fixtures.clusters.replicated",
    "tests.fixtures.pairs",
    "tests.fixtures.observer",
    "tests.fixtures.people",
    "tests.fixtures.mixins",
    "tests.fixtures.dialogue",
    "tests.fixtures.saboteur",
    "tests.fixtures.proxy",
    "tests.fixtures.web",
    "tests.fixtures.browsers",
    "tests.fixtures.selection",
    "tests.fixtures.collector",
    "tests.fixtures.leaks",
    "tests.fixtures.report",
]

# Time decides no test: neither how long an example takes, nor how long it took to make one.
settings.register_profile(
    "unitwork", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("unitwork")
