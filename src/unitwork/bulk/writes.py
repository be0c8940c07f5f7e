"""This module holds the methods that a repository has for many rows."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, Protocol, TypeAlias, TypeVar, cast, overload

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._later import later
from unitwork._logic.foreign_words import refuse_foreign

if TYPE_CHECKING:
    from unitwork._runtime.access.repository_access import RepositoryAccess

if TYPE_CHECKING:  # what a program that writes few rows does not use
    from unitwork.bulk import changes, feed, fields, insert, order
    from unitwork.bulk import rows as reading
else:
    changes, feed, fields, insert, order, reading = (
        later(f"unitwork.bulk.{name}") for name in ("changes", "feed", "fields", "insert", "order", "rows")
    )

M = TypeVar("M")
Rows: TypeAlias = Iterable[Any] | AsyncIterable[Any]
Conflict: TypeAlias = Literal["fail", "nothing", "update"]
Changes: TypeAlias = Sequence[str] | Mapping[str, Any]

BATCH_ROWS = 500


class _Repository(Protocol):
    """What these methods need of the repository that has them."""

    @property
    def database_access(self) -> RepositoryAccess: ...
    @property
    def entity(self) -> type[Any]: ...
    def _name(self, method: str = "") -> str: ...


class BulkWrites(Generic[M]):
    """The methods of a repository that write many rows. Lives: as its repository."""

    @overload
    async def bulk_insert(
        self,
        rows: Rows,
        *,
        on_conflict: Conflict = ...,
        index_elements: Sequence[Any] | None = ...,
        update: Changes | None = ...,
        returning: Literal[True] = ...,
        columns: Sequence[str] | None = ...,
        batch_rows: int = ...,
        on_progress: order.Progress | None = ...,
    ) -> list[M]: ...
    @overload
    async def bulk_insert(
        self,
        rows: Rows,
        *,
        on_conflict: Conflict = ...,
        index_elements: Sequence[Any] | None = ...,
        update: Changes | None = ...,
        returning: Literal[False],
        columns: Sequence[str] | None = ...,
        batch_rows: int = ...,
        on_progress: order.Progress | None = ...,
    ) -> int: ...
    @overload
    async def bulk_insert(
        self,
        rows: Rows,
        *,
        on_conflict: Conflict = ...,
        index_elements: Sequence[Any] | None = ...,
        update: Changes | None = ...,
        returning: bool,
        columns: Sequence[str] | None = ...,
        batch_rows: int = ...,
        on_progress: order.Progress | None = ...,
    ) -> list[M] | int: ...
    async def bulk_insert(  # noqa: D417, PLR0913  # one INSERT has all of these; nothing is foreign to it
        self,
        rows: Rows,
        *,
        on_conflict: Conflict = "fail",
        index_elements: Sequence[Any] | None = None,
        update: Changes | None = None,
        returning: bool = True,
        columns: Sequence[str] | None = None,
        batch_rows: int = BATCH_ROWS,
        on_progress: order.Progress | None = None,
        **foreign: Never,
    ) -> list[M] | int:
        """Insert many rows, all or none of them.

        Rows are read as they are sent, so a generator is never held in memory. When one of them
        fails, a transaction that is open can only roll back; without one, this is a transaction of
        its own.

        Args:
            rows: Mappings of attribute names, entities (only their values are taken), dataclasses,
                Pydantic models, or tuples with `columns`; a list, a generator or an async
                generator. Rows may name different attributes.
            on_conflict: What to do with a row whose key is stored already: "fail", "nothing"
                (keep the stored row), or "update" it.
            index_elements: Attribute names of the unique key that is meant. For "update" the
                primary key if you name none, for "nothing" any key.
            update: Attributes that "update" sets: names, or a mapping to values and SQL
                expressions. Without it, all that the row names except the key.
            returning: Return entities; False is faster by far, and returns a number.
            columns: The attribute names of rows that are tuples.
            batch_rows: Rows that are read and sent at a time, 1 to 100,000.
            on_progress: Called with the rows done so far, and all of them, or None if unknown.

        Returns:
            The entities in the order of the rows, with what the database has stored; of "nothing"
            only the new ones. With `returning=False`, how many rows were inserted or updated.

        Raises:
            RowError: A row names an unknown attribute, lacks one, or has a value of the wrong type.
            ConflictTargetError: No unique key covers `index_elements`. Before anything is sent.
            OptionError: An option has a value that does not exist, or that this database lacks.
            sqlalchemy.exc.IntegrityError: A row breaks a constraint; a note tells which, if known.

        Database:
            COPY on PostgreSQL, with conflicts through a temporary table and one INSERT; else INSERT
            with many rows. Commits only if no transaction is open. With `returning=False`, entities
            that the session has already do not change.

        Examples:
            >>> class Users(Repository[User]): ...
            >>> rows = ({"email": f"user{n}@example.com"} for n in range(3))
            >>> await Users(db).bulk_insert(rows, returning=False)
            3
        """
        refuse_foreign("bulk_insert", foreign)
        order.check_batch(batch_rows)
        repository = cast("_Repository", self)
        model = fields.Model.of(repository.entity)
        asked = order.InsertOrder.of(model, on_conflict, index_elements, update, returning=returning)
        reader = reading.RowReader(columns, in_order=insert.keeps_order(asked))
        kind = feed.new_rows(model, updates=insert.keeps_order(asked))
        supply = feed.Feed(model, kind, reader, insert.known_length(rows), on_progress)
        name = repository._name("bulk_insert")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own
        inserted = insert.BulkInsert(asked, supply, name)

        async def work(session: AsyncSession) -> Any:  # noqa: ANN401  # entities or a number
            return await inserted.run(session, rows, batch_rows)

        return cast("list[M] | int", await repository.database_access.write(name, work))

    async def upsert(
        self, row: object, *, index_elements: Sequence[Any] | None = None, update: Changes | None = None
    ) -> M:
        """Insert one row, or update the one that has its key; return the entity.

        Args:
            row: A mapping, an entity, a dataclass or a Pydantic model.
            index_elements: Attribute names of the unique key that is meant; the primary key if you
                name none.
            update: As for `bulk_insert`.

        Raises:
            RowError: The row names an unknown attribute, lacks one, or has a value of the wrong type.
            ConflictTargetError: No unique key covers `index_elements`. Before anything is sent.

        Database:
            One INSERT. Commits only if no transaction is open.

        Examples:
            >>> class Users(Repository[User]): ...
            >>> user = await Users(db).upsert({"email": "ann@example.com"}, index_elements=["email"])
            >>> user.email
            'ann@example.com'
        """
        found = await self.bulk_insert(
            [row], on_conflict="update", index_elements=index_elements, update=update
        )
        return found[0]

    async def bulk_update(
        self,
        rows: Rows,
        *,
        columns: Sequence[str] | None = None,
        batch_rows: int = BATCH_ROWS,
        on_progress: order.Progress | None = None,
    ) -> int:
        """Update many rows by their primary key, all or none of them.

        Args:
            rows: As for `bulk_insert`; each names the primary key and what to set. Of Pydantic
                models only the fields that were set are taken.
            columns: The attribute names of rows that are tuples.
            batch_rows: Rows that are read and sent at a time, 1 to 100,000.
            on_progress: Called with the rows done so far, and all of them, or None if unknown.

        Returns:
            How many rows were found. Entities that the session has already show what was set.

        Raises:
            RowError: A row names an unknown attribute, lacks its key, or has a value of the wrong type.
            StaleRowError: Rows give a version, and somebody else has changed one of them meanwhile.

        Database:
            PostgreSQL: a temporary table and one UPDATE. MariaDB: one UPDATE for 100 rows. Else one for
            each row, prepared once. Commits only if no transaction is open.
        """
        order.check_batch(batch_rows)
        model = fields.Model.of(cast("_Repository", self).entity)
        model.refuse_several_tables("bulk_update")
        reader = reading.RowReader(columns, only_set=True, in_order=True)
        update = changes.BulkUpdate(model, reader, insert.known_length(rows), on_progress)
        return await self._changed("bulk_update", update.run, rows, batch_rows)

    async def bulk_delete(
        self,
        keys: Rows,
        *,
        batch_rows: int = BATCH_ROWS,
        on_progress: order.Progress | None = None,
    ) -> int:
        """Delete many rows by their primary key, all or none of them.

        Args:
            keys: Values of the primary key, tuples of them for a composite one, or entities.
            batch_rows: Rows that are deleted by one statement, 1 to 100,000.
            on_progress: Called with the rows done so far, and all of them, or None if unknown.

        Returns:
            How many rows there were. Entities in the session know of it.

        Database:
            One DELETE for each batch. Commits only if no transaction is open.
        """
        order.check_batch(batch_rows)
        model = fields.Model.of(cast("_Repository", self).entity)
        model.refuse_several_tables("bulk_delete")
        delete = changes.BulkDelete(model, insert.known_length(keys), on_progress)
        return await self._changed("bulk_delete", delete.run, keys, batch_rows)

    async def _changed(self, method: str, run: Callable[..., Any], rows: Rows, batch_rows: int) -> int:
        repository = cast("_Repository", self)
        name = repository._name(method)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own

        async def work(session: AsyncSession) -> int:
            return cast("int", await run(session, name, rows, batch_rows))

        return await repository.database_access.write(name, work)
