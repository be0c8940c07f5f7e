"""This package holds how repositories and declared queries reach their database."""
