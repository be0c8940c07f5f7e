"""This module opens a unit of work around each GraphQL operation that strawberry executes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from typing_extensions import override

from unitwork.database import Database
from unitwork.errors import MissingExtraError
from unitwork.integrations.units import Units, several

try:
    from strawberry.extensions import SchemaExtension
    from strawberry.types.graphql import OperationType
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "unitwork.integrations.strawberry", "strawberry-graphql", "strawberry"
    ) from missing

__all__ = ["UnitOfWorkExtension"]


class UnitOfWorkExtension:
    """Gives each query and mutation a unit of work: committed before its result is answered.

    Any error in the result rolls back, also that of a single field. Resolvers that run at the same
    time share the session, one operation at a time. A subscription gets nothing: it opens a block
    for each event. A COMMIT that fails is the only answer. Lives: as long as the schema.

    Args:
        database: One Database, or several: each gets a unit of its own.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.

    Database:
        Nothing for an operation that never touches it.

    Examples:
        >>> import strawberry
        >>> @strawberry.type
        ... class Query:
        ...     @strawberry.field
        ...     async def emails(self) -> list[str]:
        ...         return [user.email for user in await Repository[User](db).all()]
        >>> schema = strawberry.Schema(Query, extensions=[UnitOfWorkExtension(db)])
        >>> print(await schema.execute("{ emails }"))
        ExecutionResult(data={'emails': []}, errors=None, extensions={})
    """

    def __init__(self, database: Database | Sequence[Database], *, atomic: bool = True) -> None:
        self._databases = several(database)
        self._atomic = atomic

    def __call__(self, execution_context: object = None) -> SchemaExtension:  # noqa: ARG002  # an older strawberry says it
        """Make the extension of one operation; called by strawberry."""
        return _Operation(self._databases, atomic=self._atomic)


class _Operation(SchemaExtension):
    """One operation. Lives: as long as it is executed."""

    def __init__(self, databases: tuple[Database, ...], *, atomic: bool) -> None:
        self._databases = databases
        self._atomic = atomic

    @override
    async def on_execute(self) -> AsyncIterator[None]:
        # Not `on_operation`: where results are streamed, that ends after the answer.
        kind = self.execution_context.operation_type
        if kind is OperationType.SUBSCRIPTION:
            yield
            return
        name = self.execution_context.operation_name or kind.value
        async with Units(self._databases, f"the operation {name}", atomic=self._atomic) as units:
            yield
            result: Any = self.execution_context.result
            # With `@defer` and `@stream`, what is deferred runs when this has ended.
            result = getattr(result, "initial_result", result)
            if result.errors:
                undone = units.begun
                await units.end(commit=False)
                if undone and kind is OperationType.MUTATION:
                    # Fields that succeeded must not be answered as stored.
                    result.data = None
