"""This package holds declared queries and the fluent Select."""

from unitwork.query.decorator import query

__all__ = ["query"]
