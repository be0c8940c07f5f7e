"""The page about the command line is what `--help` says."""

from tests.docs.cli_reference import PAGE, page


def test_cli_page_is_up_to_date() -> None:
    """After a change: `python -m tests.docs.cli_reference`."""
    assert PAGE.read_text(encoding="utf-8") == page()
