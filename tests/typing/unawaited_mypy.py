"""Which setting of mypy finds a fluent query that nobody awaits; read by checkers, never run."""

# mypy: enable-error-code="unused-awaitable"

from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Repository


class Person(Base):
    __tablename__ = "person_unawaited_mypy"
    id: Mapped[int] = mapped_column(primary_key=True)


async def forgotten(people: Repository[Person]) -> None:
    people.where(Person.id > 1)  # type: ignore[unused-awaitable]
    people.select().order_by(Person.id)  # type: ignore[unused-awaitable]
    # Without any setting:
    people.where(Person.id > 1).all()  # type: ignore[unused-coroutine]
    people.where(Person.id > 1).delete()  # type: ignore[unused-coroutine]


async def right(people: Repository[Person]) -> None:
    statement = people.where(Person.id > 1)
    await statement
    await statement.delete()
