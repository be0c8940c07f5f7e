"""This package writes many rows: as fast as the database takes them, all or nothing."""

from unitwork.bulk.writes import BulkWrites

__all__ = ["BulkWrites"]
