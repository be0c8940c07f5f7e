"""This package holds what commits or rolls back as a whole."""
