"""This package holds the one connection of `db.rolled_back()`, for tests."""
