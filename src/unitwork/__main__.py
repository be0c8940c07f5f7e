"""This module is what `python -m unitwork` and the script `unitwork` run."""

import sys

from unitwork.errors import MissingExtraError

try:
    from unitwork.cli import main
except MissingExtraError as missing:
    sys.exit(f"Error: {missing}")


def run() -> None:
    """Run the command line."""
    main(prog_name="unitwork")


if __name__ == "__main__":
    run()
