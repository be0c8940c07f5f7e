"""This module reads which attributes a patch names: unset is not None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unitwork.errors import OptionError


def patch_values(patch: Any) -> Mapping[str, Any]:  # noqa: ANN401  # a mapping, model or struct
    """Return the attributes that a patch names, with their values.

    Raises:
        OptionError: It is of a class that cannot leave attributes unset.
    """
    if isinstance(patch, Mapping):
        return patch
    if hasattr(patch, "model_fields_set"):  # Pydantic
        names: Iterable[str] = patch.model_fields_set
        return {_dumped_name(patch, name): _plain(getattr(patch, name)) for name in names}
    if hasattr(patch, "__struct_fields__"):  # msgspec
        fields = {name: getattr(patch, name) for name in patch.__struct_fields__}
        return {name: value for name, value in fields.items() if type(value).__name__ != "UnsetType"}
    allowed = ["a mapping", "a Pydantic model", "a msgspec Struct whose fields may be UNSET"]
    raise OptionError("patch", type(patch).__name__, allowed)


def _dumped_name(model: Any, name: str) -> str:  # noqa: ANN401  # a Pydantic model
    """Return what `model_dump()` calls a field."""
    if not type(model).model_config.get("serialize_by_alias"):
        return name
    field = type(model).model_fields.get(name)
    return getattr(field, "serialization_alias", None) or name


def _plain(value: Any) -> Any:  # noqa: ANN401  # a field of any type
    return value.model_dump() if hasattr(value, "model_dump") else value
