"""This module maps the two tables of the benchmark, for every contender that uses SQLAlchemy."""

from sqlalchemy import String, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.card import Card
from benchmarks.place import POOL, Place


class Base(DeclarativeBase):
    """The tables of the benchmark."""


class Person(Base):
    """Is only read."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120), unique=True)
    age: Mapped[int]
    city: Mapped[str] = mapped_column(String(80))


class Signup(Base):
    """Is only written, after a look whether the address is taken."""

    __tablename__ = "signup"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(120), unique=True)
    name: Mapped[str] = mapped_column(String(80))


def card_of(person: Person) -> Card:
    """Copy an entity to a record, as code written by hand does."""
    return Card(person.id, person.name, person.email, person.age, person.city)


def engine_at(place: Place) -> AsyncEngine:
    """Make the engine of a peer, with the pool and the settings of SQLite that unitwork has."""
    engine = create_async_engine(place.sqlalchemy_url(), pool_size=POOL, pool_use_lifo=True)
    if place.database == "sqlite":
        equip(engine)
    return engine


def equip(engine: AsyncEngine) -> None:
    """Give each connection to SQLite the settings that unitwork gives its own."""

    @event.listens_for(engine.sync_engine, "connect")
    def _set(connection: DBAPIConnection, _entry: object) -> None:
        cursor = connection.cursor()
        for pragma in ("busy_timeout=5000", "foreign_keys=ON", "synchronous=NORMAL", "journal_mode=WAL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
