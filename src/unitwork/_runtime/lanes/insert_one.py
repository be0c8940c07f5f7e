"""This module knows the INSERT of one entity of a simple model, past the ORM's unit of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql import ClauseElement

from unitwork._runtime.lanes.express_read import decoders, encoders
from unitwork._runtime.lanes.loading import NeedsSession, why_not_simple
from unitwork.dialects.direct import columns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import Column as TableColumn
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper, Session

    from unitwork.dialects.direct import Column, Direct, Rows

_EVENTS = ("before_insert", "after_insert")


class _NoContext:
    """What a default with a parameter is given: it needs what only SQLAlchemy knows."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever it asks for
        raise NeedsSession(f"a default asks for {name}")


class InsertOne:
    """The INSERT of a model with values for certain attributes. Lives: as long as it is cached.

    Raises:
        NeedsSession: The model, or what fills its columns, needs the ORM.
    """

    def __init__(self, mapper: Mapper[Any], given: frozenset[str], dialect: Dialect) -> None:
        problem = why_not_simple(mapper)
        if problem is None and mapper.version_id_col is not None:
            problem = f"{mapper.class_.__name__} counts its versions"
        if problem is None and (mapper.eager_defaults is False or not dialect.insert_returning):
            problem = "what the database fills in comes later"
        if problem is not None:
            raise NeedsSession(problem)
        self._mapper = mapper
        self._keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self._dialect = dialect
        self._sent: list[str] = []
        self._defaults: list[tuple[str, Callable[[], Any]]] = []
        self._returned: list[tuple[str, TableColumn[Any]]] = []
        for attribute in mapper.column_attrs:
            column: Any = attribute.columns[0]
            self._sort(attribute.key, column, given)
        self._compile()
        self._columns: list[Column] | None = None
        self._decoders: list[tuple[int, Callable[[Any], Any]]] = []

    def _sort(self, key: str, column: TableColumn[Any], given: frozenset[str]) -> None:
        """Decide who fills a column: the entity, its default, or the database."""
        default: Any = column.default
        if key in given:
            self._sent.append(key)
        elif default is not None and default.is_sequence:
            raise NeedsSession(f"{key} comes from a sequence")
        elif default is not None and not default.is_clause_element:
            argument = default.arg
            fill = (lambda: argument(_NoContext())) if default.is_callable else (lambda: argument)
            self._sent.append(key)
            self._defaults.append((key, fill))
        elif default is not None or column.server_default is not None or column.identity is not None:
            self._returned.append((key, column))
        elif column.primary_key:
            if column is not column.table.autoincrement_column:
                raise NeedsSession(f"nothing fills {key}")
            self._returned.append((key, column))
        elif column.type.should_evaluate_none:
            raise NeedsSession(f"{key} has a None of its own")
        else:
            # NULL is sent, as the ORM does: the database may have a default that the model does not know.
            self._sent.append(key)

    def _compile(self) -> None:
        columns = [self._mapper.attrs[key].columns[0] for key in self._sent]
        table: Any = self._mapper.local_table
        self.statement = insert(table)
        if self._returned:
            self.statement = self.statement.returning(*(column for _key, column in self._returned))
        # Its parameters have the names that the ORM gives them, which errors show.
        names = [column.key for column in columns]
        compiled: Any = self.statement.compile(dialect=self._dialect, column_keys=names)
        if not set(compiled.bind_names.values()) <= set(names):
            raise NeedsSession("a default has parameters of its own")
        self.sql = str(compiled)
        self._encoders = dict(encoders(compiled, self._dialect))
        self._names = names
        self._places = list(compiled.positiontup) if compiled.positional else None

    @property
    def observed(self) -> bool:
        """Whether somebody listens to entities being inserted, or to their values being filled in."""
        filled: Any = self._mapper.class_manager.dispatch.refresh_flush
        return bool(filled) or any(getattr(self._mapper.dispatch, name) for name in _EVENTS)

    def identity(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what a session knows the entity by; None if the database makes its key."""
        if not all(key in values for key in self._keys):
            return None
        return self._mapper.identity_key_from_primary_key(tuple(values[key] for key in self._keys))

    def arguments(self, values: dict[str, Any]) -> Any:  # noqa: ANN401  # as the driver takes them
        """Return what the driver is given; what defaults fill in is put into the values."""
        for key, fill in self._defaults:
            values[key] = fill()
        sent = {}
        for name, key in zip(self._names, self._sent, strict=True):
            value = values.get(key)
            if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
                raise NeedsSession("a value is a SQL expression")
            encode = self._encoders.get(name)
            sent[name] = value if encode is None else encode(value)
        return sent if self._places is None else [sent[name] for name in self._places]

    def rows(self, direct: Direct, driver: Any, arguments: Any) -> Awaitable[Rows]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        if self._columns is not None:
            return direct.rows(driver, self.sql, arguments)
        return self._described(direct, driver, arguments)

    async def _described(self, direct: Direct, driver: Any, arguments: Any) -> Rows:  # noqa: ANN401  # of any driver
        rows, columns = await direct.described(driver, self.sql, arguments, None)
        self._learn(columns)
        return rows

    def described_by(self, cursor: Any) -> None:  # noqa: ANN401  # as the DBAPI says
        """Learn of the columns from a cursor."""
        if self._columns is None:
            self._learn(columns_of(cursor))

    def _learn(self, columns: list[Column]) -> None:
        types = [column.type for _key, column in self._returned]
        self._decoders = decoders(types, columns, self._dialect)
        self._columns = columns

    def finish(self, entity: object, values: Mapping[str, Any], rows: Rows, session: Session | None) -> None:
        """Make the entity one that is stored: detached, or held by a session.

        Raises:
            NeedsSession: The database has stored nothing: a trigger or a rule of its own forbids it.
        """
        if self._returned and not rows:
            raise NeedsSession("nothing was inserted")
        state = instance_state(entity)
        for key, _fill in self._defaults:
            state.dict[key] = values[key]
        returned: Sequence[Any] = list(rows[0]) if self._returned else ()
        for place, decode in self._decoders:
            returned[place] = decode(returned[place])  # type: ignore[index]  # a list, where there are any
        for (key, _column), value in zip(self._returned, returned, strict=True):
            state.dict[key] = value
        state.key = self._mapper.identity_key_from_instance(entity)
        # What has no value was NULL, and is not expired, as after a flush.
        state._commit_all(state.dict)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as its extensions do
        if session is not None:
            state.session_id = session.hash_key
            session.identity_map.replace(state)


def given_values(entity: object, *, pending: bool) -> tuple[Mapper[Any], dict[str, Any]]:
    """Return what a new entity has been given, None left out, as the ORM does.

    Args:
        entity: Any object.
        pending: It waits in a session.

    Raises:
        NeedsSession: It is not new, or has related entities, or a None that means something.
    """
    state = instance_state(entity)
    if not (state.pending if pending else state.transient):
        raise NeedsSession("the entity is not new")
    mapper = state.mapper
    values: dict[str, Any] = {}
    for key, value in state.dict.items():
        attribute: Any = mapper.attrs.get(key)
        if isinstance(attribute, RelationshipProperty):
            # None for one entity may clear a key.
            if value or not attribute.uselist:
                raise NeedsSession("it has related entities")
        elif value is not None and attribute is not None:
            values[key] = value
        elif attribute is not None and attribute.columns[0].type.should_evaluate_none:
            raise NeedsSession("it has a None of its own")
    return mapper, values
