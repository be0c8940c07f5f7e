"""This package runs Alembic migrations through a Database, also inside a running event loop."""

from unitwork.errors import MissingExtraError

try:
    import alembic as _alembic
except ModuleNotFoundError as missing:
    raise MissingExtraError("Migrations", "alembic", "alembic") from missing

from unitwork.integrations.alembic.environment import run_environment
from unitwork.integrations.alembic.keeping import KEPT
from unitwork.integrations.alembic.migrations import Migrations, Revision

del _alembic, KEPT

__all__ = ["Migrations", "Revision", "run_environment"]
