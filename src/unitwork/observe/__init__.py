"""This package shows what transactions do: a log of statements, and a timeline for people to read."""

from unitwork.observe.statements import StatementLog

__all__ = ["StatementLog"]
