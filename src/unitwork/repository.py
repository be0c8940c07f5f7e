"""This module holds the repository: the door to one entity."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Never, TypeAlias, TypeVar, cast

from sqlalchemy import Select, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.base import ExecutableOption

from unitwork._later import later
from unitwork._logic.foreign_words import refuse_foreign
from unitwork._logic.patches import patch_values
from unitwork._runtime.access.identities import held_in, key_of, stale_row
from unitwork.bulk import BulkWrites
from unitwork.errors import DeclarationError, NoRowError, OptionError
from unitwork.query.locks import Lock, lock_of
from unitwork.query.owner import access_of, access_to, complete, entity_in_bases, repository
from unitwork.transaction import HasSource

if TYPE_CHECKING:  # what a program needs when it has a Database
    from sqlalchemy import ColumnExpressionArgument

    from unitwork._runtime import source as sources
    from unitwork._runtime.access import flushing
    from unitwork._runtime.access import repository_access as accesses
    from unitwork._runtime.lanes import calls
    from unitwork.query import clauses, order
    from unitwork.query import select as fluent

    OrderBy: TypeAlias = ColumnExpressionArgument[Any]
else:
    OrderBy = Any  # SQLAlchemy's alias is made of names that are not known at run time
    sources = later("unitwork._runtime.source")
    flushing = later("unitwork._runtime.access.flushing")
    accesses = later("unitwork._runtime.access.repository_access")
    calls = later("unitwork._runtime.lanes.calls")
    clauses = later("unitwork.query.clauses")
    fluent = later("unitwork.query.select")
    order = later("unitwork.query.order")

__all__ = ["Repository", "repository"]

M = TypeVar("M")
R = TypeVar("R")


class Repository(BulkWrites[M], Generic[M]):
    """The door to one entity: reads, writes, and the queries that you declare.

    Use it as it is, or subclass it to declare queries. It finds its session by itself: that of the
    open block or unit of work; without one, a read holds nothing afterwards, and a write is a
    transaction of its own. Public `async def` methods of subclasses are transactional by themselves;
    an async generator cannot be, and is refused.
    Lives: as long as you like; it holds no session. May be shared between tasks.

    Args:
        where: A Database, or an `AsyncSession` or `async_scoped_session` of yours (then nothing is ever
            committed here). Without it, the Database of the innermost block, or the only one named "default".
        entity: The mapped class, where the class does not say it: `Repository(db, User)` is
            `Repository[User](db)`.

    Raises:
        DeclarationError: The class is about another entity.

    Examples:
        >>> class Users(Repository[User]):
        ...     @query("email = :email")
        ...     async def by_email(self, email: str) -> User | None: ...
    """

    _entity_class: type[Any]

    def __init__(
        self, where: HasSource | accesses.GivenSession | None = None, entity: type[M] | None = None
    ) -> None:
        self._database_access = accesses.RepositoryAccess(None, None) if where is None else access_to(where)
        if entity is not None:
            known = getattr(self, "_entity_class", entity)
            if known is not entity:
                problem = f"it is about {known.__name__}, but is given {entity.__name__}"
                raise DeclarationError(type(self).__name__, problem, "leave the second argument out.")
            self._entity_class = entity

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        entity = entity_in_bases(cls)
        if entity is not None:
            cls._entity_class = entity
        complete(cls, getattr(cls, "_entity_class", None))

    def __unitwork_source__(self) -> sources.Source | None:
        return self.database_access.source

    @property
    def database_access(self) -> accesses.RepositoryAccess:
        """How this repository reaches its database; for the library's own floors."""
        return access_of(self)

    @property
    def entity(self) -> type[M]:
        """The mapped class."""
        found = getattr(self, "_entity_class", None)
        if found is None:
            found = next(iter(typing.get_args(getattr(self, "__orig_class__", None))), None)
        if found is None:
            raise DeclarationError(type(self).__name__, "it has no entity", "write `Repository[Model]`.")
        return cast("type[M]", found)

    @property
    def session(self) -> AsyncSession:
        """The session that is given, or the ambient one.

        Raises:
            NoTransactionError: There is neither.
        """
        return self.database_access.session()

    # -- reads ---------------------------------------------------------------------------------

    def select(self) -> fluent.FluentSelect[M]:
        """Return a `Select` of the entity that can be awaited: `await users.select().all()`."""
        return fluent.FluentSelect.of(self.database_access, self.entity, self._name())

    def where(self, *criteria: Any) -> fluent.FluentSelect[M]:
        """Return a `Select` with these conditions that can be awaited: `await users.where(...).all()`."""
        return self.select().where(*criteria)

    async def get(
        self, key: object, *, options: Sequence[ExecutableOption] = (), lock: Lock | None = None
    ) -> M | None:
        """Return the entity with this primary key, or None.

        Args:
            key: The value, or a tuple of values for a composite key.
            options: Loader options, such as `selectinload(User.orders)`.
            lock: Lock the row until the transaction ends: "update", "share", "skip_locked" (a row that
                is locked counts as missing) or "nowait" (it is an error).

        Raises:
            NoTransactionError: A lock is asked for, but would end at once.

        Database:
            One SELECT, or none if the session has it already. Commits nothing. SQLite has no row
            locks: its transactions that write exclude each other from the start.
        """
        entity, locked = self.entity, lock_of(lock)
        if locked is not None:
            self.database_access.require_transaction()
        if key is None:
            return None
        if locked is None:
            return await self.database_access.by_key(self._name("get"), entity, key, options)

        async def work(session: AsyncSession) -> M | None:
            return await session.get(entity, key, options=options or None, with_for_update=locked)  # type: ignore[arg-type]  # ORM options

        with self.database_access.noted(self._name("get")):
            return await self.database_access.read(self._name("get"), work, only_reads=True)

    async def get_one(
        self, key: object, *, options: Sequence[ExecutableOption] = (), lock: Lock | None = None
    ) -> M:
        """Return the entity with this primary key; as `get` otherwise.

        Raises:
            NoRowError: There is none.
        """
        found = await self.get(key, options=options, lock=lock)
        if found is None:
            raise NoRowError(self._name("get_one"))
        return found

    async def find_by(self, **attributes: Any) -> M | None:
        """Return the first entity whose attributes have these values, or None. One SELECT.

        Raises:
            OptionError: A name is no attribute of the entity, or there is none; the first of all is
                `select().first()`.
        """
        return await self._having("find_by", attributes).first()

    async def first(self, query: Select[Any] | None = None, *, order_by: OrderBy | None = None) -> M | None:
        """Return the first entity, or that of a statement, or None. One SELECT.

        Args:
            query: A statement that selects the entity.
            order_by: What comes after the order of the statement; if there is neither, the primary key.
        """
        chosen = self._fluent(query)
        return await (chosen if order_by is None else chosen.order_by(order_by)).first()

    async def all(self, query: Select[Any] | None = None, *, limit: int | None = None) -> list[M]:
        """Return all entities, or those of a statement; with a limit, at most as many. One SELECT."""
        chosen = self._fluent(query)
        return await (chosen if limit is None else chosen.limit(limit)).all()

    async def count(self, query: Select[Any] | None = None) -> int:
        """Return how many rows there are, or a statement has. One SELECT."""
        chosen = select(func.count()).select_from(self.entity) if query is None else clauses.counted(query)
        count = await self.database_access.scalar(self._name("count"), calls.StatementCall(chosen))
        return cast("int", count)

    async def exists(self, **attributes: Any) -> bool:
        """Say whether an entity has these values. One SELECT.

        Raises:
            OptionError: A name is no attribute of the entity, or there is none; whether there is any row
                says `select().exists()`.
        """
        return await self._having("exists", attributes).exists()

    # -- writes --------------------------------------------------------------------------------

    async def add(self, entity: M, **foreign: Never) -> M:
        """Insert a new entity and return it, with what the database fills in.

        Raises:
            sqlalchemy.exc.IntegrityError: A constraint forbids it.

        Database:
            One INSERT at once. Commits only if no transaction is open.
        """
        refuse_foreign("add", foreign)
        try:
            await self.database_access.add(self._name("add"), entity)
        except StaleDataError as error:
            raise stale_row(self.entity, [key_of(entity)]) from error
        return entity

    async def add_all(self, entities: Iterable[M], **foreign: Never) -> list[M]:
        """Insert new entities and return them. For very many rows use `bulk_insert`."""
        refuse_foreign("add_all", foreign)
        known = list(entities)
        try:
            await self.database_access.add(self._name("add_all"), *known)
        except StaleDataError as error:
            raise stale_row(self.entity, [key_of(entity) for entity in known]) from error
        return known

    async def create(self, **attributes: Any) -> M:
        """Make an entity of these attributes and insert it; as `add` otherwise."""
        return await self.add(self.entity(**attributes))

    async def save(self, entity: M, **foreign: Never) -> M:
        """Insert a new entity, or update a known one; return the one that the session holds.

        A detached entity is merged: the returned object is another one then.

        Raises:
            StaleRowError: Its version is not that of the row any more.

        Database:
            INSERT or UPDATE, for a detached entity after a SELECT. Commits only if no transaction is open.
        """
        refuse_foreign("save", foreign)

        async def work(session: AsyncSession) -> M:
            saved = entity
            if inspect(entity).detached:
                saved = await session.merge(entity)
            else:
                session.add(entity)
            await session.flush()
            return saved

        return await self._write("save", work, entity)

    async def update(self, key: object, patch: Mapping[str, Any] | object) -> M:
        """Change some attributes of the entity with this primary key, and return it.

        Args:
            key: The value, or a tuple of values for a composite key.
            patch: A mapping of attribute names, or a Pydantic model (only the fields that were set).
                What is not named is not touched; None is a value.

        Raises:
            NoRowError: There is no such entity.
            OptionError: A name is no attribute of the entity.
            StaleRowError: Somebody else has changed a versioned row meanwhile.

        Database:
            One SELECT and one UPDATE. Commits only if no transaction is open.
        """
        values = patch_values(patch)
        mapper = inspect(self.entity)
        order.refuse_unknown(values, mapper.attrs.keys())
        related = [name for name in values if name in mapper.relationships]

        async def work(session: AsyncSession) -> M:
            found = await session.get(self.entity, key)
            if found is None:
                raise NoRowError(self._name("update"))
            unloaded = [name for name in related if name in inspect(found).unloaded]
            if unloaded:
                # What is replaced must be known, and an async session loads nothing by itself.
                await session.refresh(found, unloaded)
            for name, value in values.items():
                setattr(found, name, value)
            await session.flush()
            return found

        return await self._write("update", work, key=key)

    async def delete(self, entity: M, **foreign: Never) -> None:
        """Delete an entity.

        Raises:
            StaleRowError: Somebody else has changed or deleted a versioned row meanwhile.

        Database:
            One DELETE, after the SELECTs that cascades need. Commits only if no transaction is open.
        """
        refuse_foreign("delete", foreign)
        await self._write("delete", partial(flushing.flush_deleted, entity), entity)

    async def delete_where(self, *criteria: Any) -> int:
        """Delete the rows that meet the conditions, and return how many. One DELETE.

        Raises:
            OptionError: There is no condition; for all rows use `select().delete()`.
        """
        if not criteria:
            raise OptionError("criteria", "no condition", ["at least one condition, or `select().delete()`"])
        return await self.where(*criteria).delete()

    # -- the session's own ---------------------------------------------------------------------

    async def refresh(self, entity: M, attribute_names: Sequence[str] | None = None) -> M:
        """Load the present state of an entity, or of some attributes, and return it. One SELECT.

        Changes to these attributes that were not sent are lost. A detached entity is refreshed too;
        if the session holds another object for its row, that one is refreshed and returned.
        """

        async def work(session: AsyncSession) -> M:
            held = held_in(session, entity)
            if held not in session:
                session.add(held)
                session.expire(held, attribute_names)
            await session.refresh(held, attribute_names=attribute_names)
            return held

        with self.database_access.noted(self._name("refresh")):
            return await self.database_access.read(self._name("refresh"), work)

    async def expire(self, entity: M, attribute_names: Sequence[str] | None = None) -> M:
        """Forget what is loaded of an entity; the next `refresh` loads it. Sends nothing."""
        self.session.expire(entity, attribute_names)
        return entity

    async def expunge(self, entity: M) -> M:
        """Detach an entity from the session. Sends nothing."""
        self.session.expunge(entity)
        return entity

    async def is_modified(self, entity: M) -> bool:
        """Say whether an entity has changes that were not sent. Sends nothing."""
        return any(each.history.has_changes() for each in inspect(entity).attrs)

    # -- inside --------------------------------------------------------------------------------

    async def _write(
        self, method: str, work: Callable[[AsyncSession], Awaitable[R]], *about: object, key: object = None
    ) -> R:
        name = self._name(method)
        try:
            with self.database_access.noted(name):
                return await self.database_access.write(name, work)
        except StaleDataError as error:
            keys = [key_of(entity) for entity in about] if about else [key]
            raise stale_row(self.entity, keys) from error

    def _having(self, method: str, attributes: Mapping[str, Any]) -> fluent.FluentSelect[M]:
        if not attributes:
            ending = "first" if method == "find_by" else method
            raise OptionError(method, "no attribute", [f"at least one attribute, or `select().{ending}()`"])
        order.refuse_unknown(attributes, inspect(self.entity).all_orm_descriptors.keys())
        return self.select().filter_by(**attributes)

    def _fluent(self, statement: Select[Any] | None) -> fluent.FluentSelect[M]:
        if statement is None:
            return self.select()
        if isinstance(statement, fluent.FluentSelect):
            return statement
        return fluent.FluentSelect.adopt(statement, self.select())

    def _name(self, method: str = "") -> str:
        cls = type(self)
        name = f"{cls.__module__}.{cls.__qualname__}"
        if cls is Repository:
            name = f"Repository[{self.entity.__name__}]"
        return f"{name}.{method}" if method else name
