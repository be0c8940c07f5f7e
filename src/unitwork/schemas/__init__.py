"""This package makes Pydantic schemas of models: at run time, and as source."""

from unitwork.errors import MissingExtraError

try:
    import pydantic as _pydantic
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.schemas", "pydantic", "pydantic") from missing

from unitwork.schemas.entity import UNSET, EntitySchema
from unitwork.schemas.runtime import schema_for
from unitwork.schemas.source import source_of

del _pydantic

__all__ = ["UNSET", "EntitySchema", "schema_for", "source_of"]
