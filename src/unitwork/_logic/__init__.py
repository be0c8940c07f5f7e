"""This package decides: no await, no session, no context variable."""
