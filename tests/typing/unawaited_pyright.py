"""Which setting of pyright finds a fluent query that nobody awaits; read by checkers, never run."""

# pyright: reportUnusedCallResult=true, reportUnnecessaryTypeIgnoreComment=true

from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Repository


class Person(Base):
    __tablename__ = "person_unawaited_pyright"
    id: Mapped[int] = mapped_column(primary_key=True)


async def forgotten(people: Repository[Person]) -> None:
    people.where(Person.id > 1)  # pyright: ignore[reportUnusedCallResult]
    people.select().order_by(Person.id)  # pyright: ignore[reportUnusedCallResult]


async def right(people: Repository[Person]) -> None:
    statement = people.where(Person.id > 1)
    _ = await statement
    _ = await statement.delete()
