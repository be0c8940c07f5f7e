"""This package holds the engines of a Database, one for each event loop, and who has their connections."""
