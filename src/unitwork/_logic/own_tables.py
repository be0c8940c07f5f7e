"""This module names the tables that the library itself makes in a database of others."""

from __future__ import annotations

LOAD_PREFIX = "unitwork_load_"
"""How the tables begin that remember how far a load has come, until it is finished."""
