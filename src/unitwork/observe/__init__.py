"""This package shows what transactions do: a log of statements, a timeline to read, and a page to look at."""

from unitwork.observe.panel import Panel
from unitwork.observe.statements import StatementLog

__all__ = ["Panel", "StatementLog"]
