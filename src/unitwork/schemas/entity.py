"""This module holds the class that schemas of models inherit from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState

from unitwork.errors import UnloadedAttributeError
from unitwork.models.data import unloaded_attributes

__all__ = ["UNSET", "EntitySchema"]

UNSET: Any = None
"""The default of a field that may be left out, and cannot be null: for type checkers, any value."""


class EntitySchema(BaseModel):
    """A Pydantic model that reads entities: `UserSchema.model_validate(user)`.

    Fields that may be left out hold None until they are set; `model_dump(exclude_unset=True)` has only those
    that were. Where a field cannot be called as its attribute, the attribute is its alias: data comes in and
    goes out by the names that the model has.

    Raises:
        UnloadedAttributeError: The entity lacks something that the schema shows. Nothing is loaded behind
            your back.
    """

    model_config = ConfigDict(
        from_attributes=True,
        populate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        arbitrary_types_allowed=True,
    )
    if "val_json_bytes" in ConfigDict.__annotations__:  # as of Pydantic 2.9, which reads what it writes
        # Bytes are seldom text; as `dump_model` and `Model.load` have them.
        model_config["ser_json_bytes"] = model_config["val_json_bytes"] = "base64"

    # Pydantic before 2.11 does not know `serialize_by_alias`.

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """As that of Pydantic; `by_alias` is True if it is not given."""
        options.setdefault("by_alias", True)
        return super().model_dump(**options)

    def model_dump_json(self, **options: Any) -> str:
        """As that of Pydantic; `by_alias` is True if it is not given."""
        options.setdefault("by_alias", True)
        return super().model_dump_json(**options)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unloaded(cls, data: Any) -> Any:  # noqa: ANN401  # whatever is to be checked
        if isinstance(data, dict) or not isinstance(inspect(data, raiseerr=False), InstanceState):
            return data
        keys = [field.alias or name for name, field in cls.model_fields.items()]
        unloaded = unloaded_attributes(data, keys)
        if unloaded:
            raise UnloadedAttributeError(type(data).__name__, unloaded)
        return data
