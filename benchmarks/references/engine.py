"""This module holds the one engine that hand-written code, Core and unitwork share."""

from functools import cache

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.model import engine_at
from benchmarks.place import POOL, Place
from unitwork import Database


@cache
def database_at(place: Place) -> Database:
    """Return the Database of this process; its engine is everybody's."""
    return Database(place.sqlalchemy_url(), pool_size=POOL)


def database_apart(place: Place, name: str) -> Database:
    """Return a Database of its own, for whoever changes what the others would be measured with."""
    return Database(place.sqlalchemy_url(), name=name, pool_size=POOL)


@cache
def engine_by_hand(place: Place) -> AsyncEngine:
    """Return the engine for code written by hand: that of unitwork, except on SQLite.

    There unitwork begins transactions with BEGIN IMMEDIATE, which would make reads written by hand
    wait for each other. They get SQLAlchemy's ordinary engine, with the same settings.
    """
    return engine_at(place) if place.database == "sqlite" else database_at(place).engine
