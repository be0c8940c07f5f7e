"""This package reads SQL text, as the database that it is meant for reads it."""
