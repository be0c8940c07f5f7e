"""This module maps the tables of the benchmark, for every contender that uses SQLAlchemy."""

from sqlalchemy import ForeignKey, String, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

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


class Team(Base):
    """Has members, who are read with it."""

    __tablename__ = "team"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    members: Mapped[list["Member"]] = relationship(back_populates="team", order_by="Member.id")


class Member(Base):
    """Belongs to a team, which is read with it."""

    __tablename__ = "member"

    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"), index=True)
    name: Mapped[str] = mapped_column(String(80))
    team: Mapped[Team] = relationship(back_populates="members")


class Asset(Base):
    """Is of one of two kinds, each with a table of its own beside this one."""

    __tablename__ = "asset"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "asset"}  # noqa: RUF012  # as SQLAlchemy documents it

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(80))


class House(Asset):
    """One kind."""

    __tablename__ = "house"
    __mapper_args__ = {"polymorphic_identity": "house"}  # noqa: RUF012  # as above

    id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    rooms: Mapped[int]


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
