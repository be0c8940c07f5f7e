"""This package holds the session that tasks share."""
