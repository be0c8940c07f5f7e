"""This package holds the ways of a statement to the database."""
