"""This package holds blocks and units of work, from entry to end."""
