"""How fast unitwork is: `make bench`. Start with `python benchmarks/run.py --help`."""

import sys
from pathlib import Path

# As a program, this folder is first on the path: its modules are those of the package `benchmarks`, and what
# is measured is the tree that it stands in, not a unitwork that is installed.
sys.path[:1] = [str(Path(__file__).resolve().parents[1] / each) for each in ("src", "")]

from benchmarks.command import main  # noqa: E402  # after the path

if __name__ == "__main__":
    main()
