"""This package holds what depends on how SQLAlchemy is made inside: by version, or in private."""
