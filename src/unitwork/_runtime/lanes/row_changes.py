"""This module holds the UPDATE and the DELETE of one entity by its key, past the ORM's unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, update
from sqlalchemy.orm import PassiveFlag
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.util import warn
from typing_extensions import override

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.arguments import encoders
from unitwork._runtime.lanes.defaults import SQL_EXPRESSION, Defaults, filled_by_python, is_expression
from unitwork._runtime.lanes.inserts import Returned
from unitwork._runtime.lanes.loading import why_not_simple
from unitwork._runtime.lanes.sending import StatementThatWrites
from unitwork._sqlalchemy.private import (
    has_waiting_mutations,
    is_orphan,
    label_of,
    referred_columns,
    refers_by_key,
)
from unitwork.dialects.direct import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session

    from unitwork._runtime.lanes.arguments import Processors
    from unitwork.dialects.direct import Column, Direct, Rows

_COUNTS_VERSIONS = LaneRefusal("it counts its versions")
_ORPHAN = LaneRefusal("it belongs to nothing any more")
_FETCHED_AT_ONCE = LaneRefusal("what the database fills in is fetched at once")
_NONE_OF_ITS_COLUMNS = LaneRefusal("more than columns has changed")
_KEY_CHANGES = LaneRefusal("its key changes, or is not loaded")
_REFERRED_TO = LaneRefusal("others refer to what changes")
_NOT_LOADED = LaneRefusal("a part of what is deleted is not loaded")
_RELATED_ENTITIES = LaneRefusal("it has related entities")
_UNUSUAL_NAMES = LaneRefusal("its parameters have unusual names")
_LIKE_A_FLUSH = (
    PassiveFlag.PASSIVE_NO_FETCH_RELATED | PassiveFlag.LOAD_AGAINST_COMMITTED | PassiveFlag.NO_RAISE
)


class RowsOfModel:
    """What the rows of one model need when they are changed or deleted. Lives: as long as it is cached.

    Attributes:
        keys: The attributes of the primary key.
        columns: The attributes of columns.
    """

    @classmethod
    def of(cls, mapper: Mapper[Any]) -> RowsOfModel | LaneRefusal:
        """Look at a model; or say why its rows need the ORM."""
        refusal = why_not_simple(mapper)
        if refusal is None and mapper.version_id_col is not None:
            refusal = _COUNTS_VERSIONS
        return refusal or cls(mapper)

    def __init__(self, mapper: Mapper[Any]) -> None:
        self.mapper = mapper
        self.table: Any = mapper.local_table
        self.keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self.columns = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
        self.attributes = {column.key: key for key, column in self.columns.items()}
        """By the names of their columns in Python."""
        related = [each for each in mapper.relationships if not each.viewonly]
        self.targets = {each.mapper for each in related}
        """The models that its relationships lead to."""
        self.related = {each.key for each in related}
        self.eager = mapper.eager_defaults is True
        self.changed_by_database = {
            key: column
            for key, column in self.columns.items()
            if column.server_onupdate is not None
            or (column.onupdate is not None and column.onupdate.is_clause_element)
        }
        self._made_by_database = {
            key
            for key, column in self.columns.items()
            if column.server_default is not None
            or (column.default is not None and column.default.is_clause_element)
        }
        self._looked_up = [each for each in related if each.direction is MANYTOONE]
        self._loaded = [each.key for each in related if each.direction is not MANYTOONE]
        self.follows_deletes = any(map(_follows_deletes, related))
        """Whether a DELETE needs to look for related rows."""

    def changed(self, state: InstanceState[Any]) -> Mapping[str, Any] | LaneRefusal:
        """Return the values of the attributes that have changed, as a flush finds them."""
        values, changes = state.dict, state.committed_state
        if is_orphan(state):
            return _ORPHAN
        if has_waiting_mutations(state) or not changes.keys() <= self.columns.keys():
            return _NONE_OF_ITS_COLUMNS
        if not all(key in values and key not in changes for key in self.keys):
            return _KEY_CHANGES
        if self.eager and not self._made_by_database <= values.keys():
            return _FETCHED_AT_ONCE
        found: dict[str, Any] = {}
        for key, before in changes.items():
            value = values[key]
            if is_expression(value):
                return SQL_EXPRESSION
            if state.manager[key].impl.is_equal(value, before) is not True:
                found[key] = value
        referred = referred_columns(self.mapper)
        return _REFERRED_TO if any(self.columns[key] in referred for key in found) else found

    def why_not_deleted(self, state: InstanceState[Any]) -> LaneRefusal | None:
        """Say why the row of an entity needs the ORM to be deleted."""
        values, changes = state.dict, state.committed_state
        if has_waiting_mutations(state) or not changes.keys() <= self.columns.keys() - set(self.keys):
            return _NONE_OF_ITS_COLUMNS
        if not (state.expired_attributes.isdisjoint(self.columns) and values.keys() >= set(self.keys)):
            return _NOT_LOADED
        if any(key in values for key in self._loaded):
            return _RELATED_ENTITIES
        for each in self._looked_up:
            if not each.passive_deletes:
                get_history(state.obj(), each.key, _LIKE_A_FLUSH)  # what the session holds is found
        return None


class CompiledRowChange:
    """The UPDATE of certain columns of a row, or its DELETE. Lives: as long as it is cached."""

    @classmethod
    def of(
        cls, model: RowsOfModel, changed: frozenset[str] | None, dialect: Dialect
    ) -> CompiledRowChange | LaneRefusal:
        """Compile it; or say why the model, or what fills its columns, needs the ORM.

        Args:
            model: What is changed.
            changed: The attributes with new values; None to delete the row.
            dialect: Of the database.
        """
        if changed is None and model.follows_deletes:
            return _RELATED_ENTITIES
        names = {key: _name_of_key(model.columns[key], changed) for key in model.keys}
        found = and_(
            *(
                model.columns[key] == bindparam(name, type_=model.columns[key].type)
                for key, name in names.items()
            )
        )
        statement: Any = delete(model.table) if changed is None else update(model.table)
        values = {model.columns[key].key: key for key in changed or ()}
        if changed is not None and model.eager and not model.changed_by_database.keys() <= changed:
            if not (dialect.update_returning and model.table.implicit_returning):
                return _FETCHED_AT_ONCE
            statement = statement.return_defaults(*model.changed_by_database.values())
        compiled: Any = statement.where(found).compile(
            dialect=dialect, column_keys=sorted([*values, *names.values()])
        )
        sent = values | {name: key for key, name in names.items()}
        filled = {column.key: column for column in compiled.update_prefetch}
        if not set(compiled.bind_names.values()) <= sent.keys() | filled.keys() or len(sent) < len(names):
            return _UNUSUAL_NAMES
        fills: dict[str, Callable[[], Any]] = {}
        for column in compiled.update_prefetch:
            fill = filled_by_python(column.onupdate)
            if isinstance(fill, LaneRefusal):
                return fill
            fills[model.attributes[column.key]] = fill
        encode = encoders(compiled, dialect)
        return encode if isinstance(encode, LaneRefusal) else cls(model, compiled, (sent, encode), fills)

    def __init__(
        self,
        model: RowsOfModel,
        compiled: Any,  # noqa: ANN401  # of SQLAlchemy's
        given: tuple[Mapping[str, str], Processors],
        fills: Mapping[str, Callable[[], Any]],
    ) -> None:
        sent, encode = given
        self.model = model
        self.statement = compiled.statement
        self.deletes: bool = compiled.isdelete
        self.sql = str(compiled)
        self.counts_many: bool = compiled.dialect.supports_sane_multi_rowcount
        """Whether it is looked at how many rows were touched, where it is sent with the values of several."""
        attributes = model.attributes
        self._expires = [attributes[column.key] for column in compiled.postfetch if column.key in attributes]
        names = list(compiled.bind_names.values())
        self._sent = [(name, sent.get(name) or attributes[name]) for name in names]
        self._encoders = dict(encode)
        returned = compiled.effective_returning or ()
        self.returned = Returned(
            self.sql, compiled.dialect, [(attributes[column.key], column) for column in returned]
        )
        self._places = list(compiled.positiontup) if compiled.positional else None
        self.defaults = Defaults(fills, self._sent, encode, self._places)

    @property
    def observed(self) -> bool:
        """Whether somebody listens to rows being changed, or to their values being filled in."""
        events: Any = self.model.mapper.dispatch
        if self.deletes:
            return bool(events.before_delete or events.after_delete)
        if events.before_update or events.after_update:
            return True
        filled: Any = self.model.mapper.class_manager.dispatch.refresh_flush
        return bool(filled and (self.defaults.keys or self.returned))

    def call(self, state: InstanceState[Any], name: str) -> RowChangeCall:
        """Return the statement for one entity, but for what Python fills in."""
        values, defaults = state.dict, self.defaults.keys
        sent = {}
        for bind, key in self._sent:
            value = None if key in defaults else values[key]
            encode = None if key in defaults else self._encoders.get(bind)
            sent[bind] = value if encode is None else encode(value)
        arguments = sent if self._places is None else [sent[bind] for bind in self._places]
        return RowChangeCall(self, name, state, arguments, {})

    def finish(
        self, state: InstanceState[Any], filled: Mapping[str, Any], rows: Rows, session: Session
    ) -> None:
        """Take note of what the database has filled in, or has been given."""
        if self.returned and rows:
            state.dict.update(self.returned.values(rows[0]))
        for key, value in filled.items():
            state.dict[key] = value
            state.committed_state.pop(key, None)
        if self._expires:
            session.expire(state.obj(), self._expires)

    def check(self, expected: int, count: int) -> None:
        """Look at how many rows were touched.

        Raises:
            sqlalchemy.orm.exc.StaleDataError: A row to be updated is not there.
        """
        if count == expected:
            return
        table = self.model.table.description
        if not self.deletes:
            raise StaleDataError(
                f"UPDATE statement on table '{table}' expected to update {expected} row(s); "
                f"{count} were matched."
            )
        if self.model.mapper.confirm_deleted_rows:
            warn(
                f"DELETE statement on table '{table}' expected to delete {expected} row(s); {count} were "
                "matched.  Please set confirm_deleted_rows=False within the mapper configuration to prevent "
                "this warning."
            )


@dataclass(frozen=True, slots=True)
class _ChangesRows(StatementThatWrites):
    """A statement that changes rows of a model, or deletes them."""

    change: CompiledRowChange
    """What is done to each row."""
    name: str

    @property
    def sql(self) -> str:
        return self.change.sql

    @property
    def statement(self) -> object:
        return self.change.statement


@dataclass(frozen=True, slots=True)
class RowChangeCall(_ChangesRows):
    """One entity whose row is changed or deleted."""

    state: InstanceState[Any]
    arguments: Any
    filled: dict[str, Any]

    def fill_in(self) -> LaneRefusal | None:
        """Let Python fill in what changes with the row; say why the ORM must do that, if so."""
        return self.change.defaults.fill_in(self.filled, self.arguments)

    def flushed(self, rows: Rows, session: Session) -> None:
        """Take note of what the database has done.

        Raises:
            sqlalchemy.orm.exc.StaleDataError: The row to be updated is not there.
        """
        self.change.finish(self.state, self.filled, rows, session)
        self.change.check(1, len(rows))

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        """Send it; its rows are the numbers of those that it has touched, if it returns none."""
        if self.change.returned:
            return await self.change.returned.rows(direct, driver, self.arguments)
        return range(await direct.changed(driver, self.sql, self.arguments))

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        if self.change.returned:
            self.change.returned.described_by(cursor)

    def learnt(self, columns: list[Column]) -> None:
        if self.change.returned:
            self.change.returned.learnt(columns)

    def forget_columns(self) -> None:
        self.change.returned.forget_columns()


@dataclass(frozen=True, slots=True)
class RowChangesCall(_ChangesRows):
    """Several entities whose rows are changed in the same columns, or deleted: one text, sent at once."""

    calls: Sequence[RowChangeCall]

    @property
    @override
    def parameters(self) -> Any:
        return [call.parameters for call in self.calls]

    def fill_in(self) -> LaneRefusal | None:
        """Let Python fill in what changes with the rows; say why the ORM must do that, if so."""
        return next(filter(None, (call.fill_in() for call in self.calls)), None)

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        """Send it; its rows are the numbers of those that it has touched, if that is known."""
        return numbers(await direct.changed_many(driver, self.sql, [call.arguments for call in self.calls]))

    def flushed(self, rows: Rows, session: Session) -> None:
        """Take note of what the database has done.

        Raises:
            sqlalchemy.orm.exc.StaleDataError: A row to be updated is not there.
        """
        for call in self.calls:
            self.change.finish(call.state, call.filled, (), session)
        if self.change.counts_many:
            self.change.check(len(self.calls), len(rows))

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """It has no columns."""

    def learnt(self, columns: list[Column]) -> None:
        """It has none."""

    def forget_columns(self) -> None:
        """It knows none."""


def _name_of_key(column: Any, changed: frozenset[str] | None) -> str:  # noqa: ANN401  # of a table
    """Return what the ORM calls the value by which it finds a row."""
    return str(column.key) if changed is None else label_of(column)


def _follows_deletes(relationship: RelationshipProperty[Any]) -> bool:
    """Say whether a DELETE looks for the entities of a relationship."""
    cascade = relationship.cascade
    if relationship.direction is not MANYTOONE:
        return not relationship.passive_deletes
    by_key = relationship.passive_deletes or refers_by_key(relationship)
    return bool(cascade.delete or cascade.delete_orphan or relationship.post_update or not by_key)
