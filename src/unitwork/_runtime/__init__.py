"""This package acts: the only code that holds state or awaits the database."""
