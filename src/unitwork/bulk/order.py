"""This module holds what a caller asks of one bulk insert, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import null

from unitwork._logic.conflicts import OnConflict, check_target
from unitwork.bulk.fields import Field, Model
from unitwork.bulk.plan import InsertPlan
from unitwork.errors import OptionError

Progress: TypeAlias = Callable[[int, int | None], object]
Update: TypeAlias = Sequence[str] | Mapping[str, Any]

LARGEST_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class InsertOrder:
    """What to insert, and what to do on a conflict. Lives: one bulk write."""

    model: Model
    on_conflict: OnConflict
    target: tuple[Field, ...]
    update: Update | None
    returning: bool

    @classmethod
    def of(
        cls,
        model: Model,
        on_conflict: object,
        index_elements: Sequence[Any] | None,
        update: Update | None,
        *,
        returning: bool,
    ) -> InsertOrder:
        """Check what a person wrote.

        Raises:
            OptionError: An option has a value that does not exist, or does not fit another one.
            ConflictTargetError: No unique key covers exactly these columns.
        """
        known = [action.value for action in OnConflict]
        if on_conflict not in known:
            raise OptionError("on_conflict", on_conflict, [repr(value) for value in known])
        action = OnConflict(on_conflict)
        if action is OnConflict.FAIL and (index_elements is not None or update is not None):
            raise OptionError("on_conflict", "fail", ["'nothing' or 'update' with index_elements"])
        if action is not OnConflict.UPDATE and update is not None:
            raise OptionError("update", update, ["it with on_conflict='update'"])
        if action is not OnConflict.FAIL:
            model.refuse_several_tables("a conflict clause")
        target = _target(model, action, index_elements)
        if target:
            check_target(model.table, [field.column.key for field in target])
        _check_update(model, update)
        return cls(model, action, target, update, returning)

    def changes(self, plan: InsertPlan) -> dict[Field, object]:
        """Return what a conflicting row gets: NEW for the value of the new row, or a value or SQL.

        What Python makes anew for each row is not among it; see `made_for_each`.
        """
        chosen = self._chosen(plan)
        if not chosen:
            # An update of nothing still has to tell the stored row.
            return self._shown_again(plan) or {self.target[0]: NEW}
        return {**chosen, **self._by_model(chosen), **self._shown_again(plan)}

    def _chosen(self, plan: InsertPlan) -> dict[Field, object]:
        """Return what the caller wants to be set; None of a row is NULL there, whatever the default is."""
        fields = self.model.fields
        if isinstance(self.update, Mapping):
            return {fields[name]: value for name, value in self.update.items()}
        nulls = plan.nulls.union(field.name for field in plan.sql_nulls)
        named: Sequence[str] = self.update or ()
        if self.update is None:
            left = {field.name for field in (*self.target, *self.model.key)}
            named = [name for name in (*plan.names, *sorted(nulls)) if name not in left]
        return {fields[name]: null() if name in nulls else NEW for name in named}

    def _by_model(self, chosen: Mapping[Field, object]) -> dict[Field, object]:
        """Return what each UPDATE of the model sets beside it: `onupdate`, and the next version."""
        found: dict[Field, object] = {
            field: field.set_on_update
            for field in self.model.fields.values()
            if field not in chosen and field.set_on_update is not None
        }
        version = self.model.version
        if version is not None and version not in found and self.model.counts_versions:
            found[version] = version.column + 1
        return found

    def _shown_again(self, plan: InsertPlan) -> dict[Field, object]:
        """Return what makes a hidden row one that can be read: "stored" must not mean "invisible"."""
        hidden = self.model.hidden_by
        named = plan.names if self.update is None else self.update
        return {} if hidden is None or hidden.name in named else {hidden: null()}

    def made_for_each(self, plan: InsertPlan) -> list[Field]:
        """Return the attributes that Python makes anew for each row that it updates."""
        if self.on_conflict is not OnConflict.UPDATE:
            return []
        chosen = self._chosen(plan)
        fields = self.model.fields.values() if chosen else ()
        return [field for field in fields if field.on_update is not None and field not in chosen]

    def is_last_row_enough(self, plan: InsertPlan) -> bool:
        """Say whether of rows with the same key the last one alone leaves what all of them would."""
        changes = self.changes(plan)
        return all(value is NEW for value in changes.values()) and {*plan.given} <= {*changes, *self.target}


class _NewValue:
    """Stands for the value that the new row has."""


NEW = _NewValue()


def _target(model: Model, action: OnConflict, elements: Sequence[Any] | None) -> tuple[Field, ...]:
    if elements is None:
        return model.key if action is OnConflict.UPDATE else ()
    if isinstance(elements, str):
        raise OptionError("index_elements", elements, [f"a list: [{elements!r}]"])
    return tuple(_field(model, element, "index_elements") for element in elements)


def _field(model: Model, name: Any, option: str) -> Field:  # noqa: ANN401  # a name or an attribute
    key = name if isinstance(name, str) else getattr(name, "key", name)
    if key not in model.fields:
        raise OptionError(option, key, [repr(known) for known in model.fields])
    return model.fields[key]


def _check_update(model: Model, update: Update | None) -> None:
    if isinstance(update, str):
        raise OptionError("update", update, [f"a list: [{update!r}]", "a mapping"])
    for name in update if update is not None else ():
        _field(model, name, "update")


def check_batch(batch_rows: int) -> None:
    """Refuse a number of rows that no batch can have.

    Raises:
        OptionError: It is out of range.
    """
    if isinstance(batch_rows, bool) or not 1 <= batch_rows <= LARGEST_BATCH:
        raise OptionError("batch_rows", batch_rows, [f"a number from 1 to {LARGEST_BATCH:,}"])
