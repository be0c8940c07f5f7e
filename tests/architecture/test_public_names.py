"""What can be imported from unitwork is a short list that changes only on purpose."""

import subprocess
import sys
from pathlib import Path

import unitwork

GOLDEN = Path(__file__).with_name("public_names.txt")

# What `import unitwork` may load besides the standard library.
EXPECTED_LIBRARIES = {"unitwork", "sqlalchemy", "greenlet", "typing_extensions", "cython_runtime"}

LOADED = """
import sys
before = set(sys.modules)
import unitwork
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_facade_exports_the_golden_list() -> None:
    """`unitwork.__all__` is the list in `public_names.txt`, one name on each line, sorted."""
    golden = GOLDEN.read_text(encoding="utf-8").split()

    assert sorted(unitwork.__all__) == golden


def test_facade_only_passes_on() -> None:
    """Every exported name exists and is written in another module of the package."""
    for name in unitwork.__all__:
        value = getattr(unitwork, name)
        home = getattr(value, "__module__", "unitwork.elsewhere")

        assert home.startswith("unitwork."), name


def test_import_loads_no_other_library() -> None:
    """`import unitwork` needs SQLAlchemy alone, however much is installed."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("_")}

    assert loaded - sys.stdlib_module_names <= EXPECTED_LIBRARIES
