"""`db.check()` finds what is wrong with a query, and has no complaint about one that is right.

Each line is one query: the databases that can know it (s, p and m: SQLite, PostgreSQL, MariaDB; a and y:
asyncpg, psycopg), how it is declared, its parameters (None: it is built), and what it returns, or its entity.
"""

# ruff: noqa: E501, F401, S307, S102 - texts of queries, which use what is imported

import datetime as dt
import enum
import types
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import pytest
from sqlalchemy import (
    JSON,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    TypeDecorator,
    UniqueConstraint,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column, registry

from unitwork import (
    Base,
    CursorPage,
    CursorRequest,
    Database,
    Page,
    PageRequest,
    QueryDeclarationError,
    Repository,
    query,
)


class Mood(enum.Enum):
    """Of a person."""

    SAD = "sad"
    FUN = "fun"


class Other(enum.Enum):
    """Of nobody."""

    X = "x"


class Level(enum.IntEnum):
    """Is a number."""

    LOW = 1


class Money(TypeDecorator[Decimal]):
    """Only it knows what it takes."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: object) -> int | None:
        """Store hundredths."""
        return None if value is None else int(value * 100)


class Tables(Base):
    """The base of these tables."""

    __abstract__ = True
    registry = registry()
    metadata = MetaData()


class Person(Tables):
    """One attribute of each type."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(50), unique=True)
    age: Mapped[int | None]
    mood: Mapped[Mood | None]
    born: Mapped[dt.date | None]
    seen: Mapped[dt.datetime | None]
    score: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    active: Mapped[bool]
    token: Mapped[uuid.UUID | None]
    rate: Mapped[float | None]
    data: Mapped[object] = mapped_column(JSON)


class Purchase(Tables):
    """Has a key of two columns."""

    __tablename__ = "orders"
    __table_args__ = (UniqueConstraint("person_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    name: Mapped[str] = mapped_column(String(50))
    total: Mapped[int]


class Drifted(Tables):
    """The database has no column `gone`, and `kind` is text there."""

    __tablename__ = "drifted"

    id: Mapped[int] = mapped_column(primary_key=True)
    gone: Mapped[str] = mapped_column(String(50))
    kind: Mapped[int]


class Offer(Tables):
    """Has a type of ours."""

    __tablename__ = "offer"

    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(Money())
    level: Mapped[int]
    born: Mapped[dt.date]


@dataclass
class Named:
    """Of any table with names."""

    id: int
    name: str


@dataclass
class Aged:
    """Takes NULL."""

    id: int
    age: int | None


class Grown(NamedTuple):
    """Takes no NULL."""

    id: int
    age: int


class Priced(NamedTuple):
    """Of an order."""

    id: int
    total: int


class Row(TypedDict):
    """Of any table with names."""

    id: int
    name: str


class Day(NamedTuple):
    """Of a moment, whose time of day is lost."""

    ts: dt.date


@dataclass
class Plain:
    """Of each column of `plain` a right type."""

    n: int
    d: dt.date
    ts: dt.datetime
    x: Decimal
    s: str


@dataclass
class Numbered:
    """Has a name that is no number."""

    id: int
    name: int


class Lists(TypedDict):
    """Has a list where a text is."""

    name: list[str]


# fmt: off
WRONG: list[tuple[str, str, str | None, str]] = [
    ('spm', 'query("nme = :n")', 'n: str', 'list[Person]'),
    ('spm', 'query("name = :n AND person.nope = 1")', 'n: str', 'list[Person]'),
    ('spm', 'query("id IN (SELECT person_id FROM order_s)")', '', 'list[Person]'),
    ('spm', 'query("id IN (SELECT nope FROM orders)")', '', 'list[Person]'),
    ('spm', 'query("name LIKE :n")', 'n: int', 'list[Person]'),
    ('spm', 'query("id BETWEEN :a AND :b")', 'a: str, b: int', 'list[Person]'),
    ('spm', 'query("id IN (:a)")', 'a: list[str]', 'list[Person]'),
    ('spm', 'query("EXISTS (SELECT 1 FROM orders o WHERE o.person_id = person.id AND o.total > :t)")', 't: str', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE EXISTS (SELECT 1 FROM orders WHERE orders.nope = person.id)")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT count(*) FROM person GROUP BY nope")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person ORDER BY nope")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person LIMIT 5 OFFSET")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FORM person")', '', 'list[int]'),
    ('spm', 'query.sql("WITH a AS (SELECT id FROM person) SELECT nope FROM a")', '', 'list[int]'),
    ('spm', 'query.sql("WITH a AS (SELECT id FROM persons) SELECT id FROM a")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT a.nope FROM (SELECT id FROM person) a")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person UNION SELECT id, name FROM orders")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person JOIN orders ON orders.person_id = person.id")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT p.id FROM person p JOIN orders o ON o.persn_id = p.id")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT p.id FROM person p LEFT JOIN ordrs o ON o.person_id = p.id")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT uper(name) FROM person")', '', 'list[str]'),
    ('spm', 'query.sql("SELECT coalesce(nope, 1) FROM person")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT row_number() OVER (ORDER BY nope) FROM person")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT max(name, age, nope) FROM person")', '', 'list[str]'),
    ('spm', 'query.sql("INSERT INTO person (id, nope) VALUES (:i, 1)")', 'i: int', 'int'),
    ('spm', 'query.sql("INSERT INTO persons (id) VALUES (:i)")', 'i: int', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (id, name) VALUES (:i)")', 'i: int', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (id, person_id, name, total) VALUES (:i, 1, :n, 5)")', 'i: int, n: int', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (id, person_id, name, total) SELECT id, id, name, nope FROM person")', '', 'int'),
    ('spm', 'query.sql("INSERT INTO orders VALUES (:i, :p, :n, :t)")', 'i: int, p: int, n: str, t: str', 'int'),
    ('spm', 'query.sql("UPDATE persons SET age = 1")', '', 'int'),
    ('spm', 'query.sql("UPDATE person SET age = :a WHERE id = :i")', 'a: str, i: int', 'int'),
    ('spm', 'query.sql("UPDATE person SET age = :a WHERE id = :i")', 'a: int, i: str', 'int'),
    ('spm', 'query.sql("UPDATE person SET age = age + 1 WHERE nope = 1")', '', 'int'),
    ('spm', 'query.sql("DELETE FROM person WHERE nope = 1")', '', 'int'),
    ('spm', 'query.sql("DELETE FROM person WHERE id = :i")', 'i: str', 'int'),
    ('spm', 'query.sql("DELETE FROM person WHERE id IN :ids")', 'ids: list[str]', 'int'),
    ('sp', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (1, \'x\', 1) RETURNING nope")', '', 'list[int]'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (1, \'x\', 1) RETURNING id, nme")', '', 'list[Named]'),
    ('sp', 'query.sql("UPDATE person SET age = 1 RETURNING id, nope")', '', 'list[Aged]'),
    ('sp', 'query.sql("UPDATE person SET age = 1 RETURNING id")', '', 'list[Named]'),
    ('spm', 'query.sql("DELETE FROM person RETURNING id")', '', 'list[Named]'),
    ('spm', 'query.sql("DELETE FROM person RETURNING id, name")', '', 'list[int]'),
    ('spm', 'query.sql("DELETE FROM person RETURNING name")', '', 'list[int]'),
    ('sp', 'query.sql("INSERT INTO person (id, name) VALUES (1, \'x\') ON CONFLICT (name) DO NOTHING")', '', 'int'),
    ('sp', 'query.sql("INSERT INTO person (id, name) VALUES (1, \'x\') ON CONFLICT (nope) DO NOTHING")', '', 'int'),
    ('sp', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (1, \'x\', 1) ON CONFLICT (person_id) DO UPDATE SET total = excluded.total")', '', 'int'),
    ('sp', 'query.sql("INSERT INTO person (id, name) VALUES (1, \'x\') ON CONFLICT (id) DO UPDATE SET nope = 1")', '', 'int'),
    ('sp', 'query.sql("INSERT INTO person (id, name) VALUES (1, \'x\') ON CONFLICT (id) DO UPDATE SET name = excluded.nope")', '', 'int'),
    ('m', 'query.sql("INSERT INTO person (id, name) VALUES (1, \'x\') ON DUPLICATE KEY UPDATE nope = 1")', '', 'int'),
    ('m', 'query.sql("REPLACE INTO person (id, nope) VALUES (1, \'x\')")', '', 'int'),
    ('spm', 'query.sql("SELECT id FROM person")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id, name AS nme FROM person")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id FROM person")', '', 'list[Row]'),
    ('spm', 'query.sql("SELECT id FROM orders")', '', 'list[Priced]'),
    ('spm', 'query.sql("SELECT id, name FROM person")', '', 'str'),
    ('spm', 'query.sql("SELECT id, name FROM person")', '', 'list[Person]'),
    ('spm', 'query.sql("SELECT name FROM person")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT age FROM person")', '', 'list[str]'),
    ('spm', 'query.sql("SELECT name AS id, name FROM person")', '', 'list[Named]'),
    ('pm', 'query.sql("SELECT count(*) FROM person")', '', 'str'),
    ('pm', 'query.sql("SELECT born FROM person WHERE born IS NOT NULL")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT seen FROM person WHERE seen IS NOT NULL")', '', 'list[int]'),
    ('pm', 'query.sql("SELECT score FROM person WHERE score > 0")', '', 'list[str]'),
    ('pm', 'query.sql("SELECT upper(name) FROM person")', '', 'list[int]'),
    ('pm', 'query.sql("SELECT rate FROM person WHERE rate > 0")', '', 'list[str]'),
    ('p', 'query.sql("SELECT active FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT token FROM person WHERE token IS NOT NULL")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE name = 5")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE age = \'abc\'")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE mood = \'nope\'")', '', 'list[int]'),
    ('p', 'query.sql("UPDATE person SET mood = \'nope\'")', '', 'int'),
    ('p', 'query.sql("SELECT id FROM person WHERE born = \'not a date\'")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE active = 1")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE id = name")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id + name FROM person")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id, count(*) FROM person GROUP BY name")', '', 'list[tuple]'),
    ('p', 'query.sql("SELECT id FROM person LIMIT :n")', 'n: str', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE id = ANY(:ids)")', 'ids: list[str]', 'list[int]'),
    ('p', 'query.sql("SELECT length(:a)")', 'a: int', 'int'),
    ('p', 'query.sql("SELECT id FROM person WHERE name = lower(:a)")', 'a: int', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE age + 1 > :a")', 'a: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE mood = :m")', 'm: Other', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE :a < age")', 'a: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE name <> :a")', 'a: dt.date', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE born > :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE seen > :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE token = :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE rate > :a")', 'a: str', 'list[int]'),
    ('spm', 'query.sql("SELECT o.id FROM person p JOIN orders o ON o.person_id = p.id WHERE p.age > :a AND o.name = :b")', 'a: str, b: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM other WHERE n > :a")', 'a: str', 'list[int]'),
    ('spm', 'query.sql("UPDATE other SET n = :a")', 'a: str', 'int'),
    ('spm', 'query.sql("INSERT INTO other (n, t) VALUES (1, :a)")', 'a: int', 'int'),
    ('spm', 'query', '*, age: str', 'list[Person]'),
    ('spm', 'query', '*, age__gte: str', 'list[Person]'),
    ('spm', 'query', '*, name__in: list[int]', 'list[Person]'),
    ('spm', 'query', '*, born: int', 'list[Person]'),
    ('spm', 'query', '*, gone: str', 'list[Drifted]'),
    ('spm', 'query', '*, gone: str', 'int'),
    ('spm', 'query.many(lambda self: select(Drifted))', None, 'Drifted'),
    ('pm', 'query.many(lambda self: select(Drifted.kind))', None, 'Drifted'),
    ('spm', 'query.scalar(lambda self: select(func.nofunc(Person.id)))', None, 'Person'),
    ('spm', "query.many(lambda self: select(Person).where(text('nope = 1')))", None, 'Person'),
    ('spm', "query.execute(lambda self: update(Drifted).values(gone='x'))", None, 'Drifted'),
    ('spm', "query.execute(lambda self: insert(Drifted).values(gone='x', kind=1))", None, 'Drifted'),
    ('pm', 'query.sql("TRUNCATE TABLE persons")', '', 'None'),
    ('p', 'query.sql("LOCK TABLE persons IN SHARE MODE")', '', 'None'),
    ('p', 'query.sql("CALL nope(:n)")', 'n: int', 'None'),
    ('p', 'query.sql("SHOW nope_nope")', '', 'str'),
    ('p', 'query.sql("SELECT p.id FROM person p, LATERAL (SELECT 1 FROM orders o WHERE o.nope = p.id) x")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT max(age) FROM person")', '', 'int'),
    ('spm', 'query.sql("SELECT age FROM person")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id, age FROM person")', '', 'list[Grown]'),
    ('spm', 'query.sql("UPDATE orders SET name = :n")', 'n: str | None', 'int'),
    ('p', 'query.sql("MERGE INTO orders o USING person p ON p.id = o.nope WHEN MATCHED THEN DELETE")', '', 'int'),
    ('p', 'query.sql("SELECT id FROM elsewhere.far WHERE nope > 1")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM nowhere.far")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE data->>nope = \'x\'")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE name::nope = \'x\'")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT CAST(nope AS char(5)) FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT id FROM person WHERE mood = :m")', 'm: Literal["SAD", "MAD"]', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person p WHERE p.id IN (SELECT o.person_id FROM orders o WHERE o.total > :t)")', 't: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE name IN (:a, :b)")', 'a: str, b: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE age NOT BETWEEN :a AND :b")', 'a: int, b: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE name NOT LIKE :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT count(*) FROM person WHERE person.age = :a")', 'a: bytes', 'int'),
    ('spm', 'query.sql("SELECT p.name AS id, p.id AS name FROM person p")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id, id AS name FROM person")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id, id AS name FROM person")', '', 'list[Row]'),
    ('spm', 'query.sql("WITH a AS (SELECT id, name FROM person) SELECT name FROM a")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT name FROM person UNION SELECT name FROM orders")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT x.name FROM (SELECT name FROM person) x")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT name FROM a_view")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT nope FROM a_view")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT p.name FROM person p LEFT JOIN orders o ON o.person_id = p.id WHERE o.nme = \'x\'")', '', 'list[str]'),
    ('spm', 'query.sql("SELECT o.total FROM person p LEFT JOIN orders o ON o.person_id = p.id")', '', 'list[int]'),
    ('spm', 'query.sql("INSERT INTO person (id, name, email, active, data) VALUES (:i, :n, :e, :x)")', 'i: int, n: str, e: str, x: bool', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t), (:q, :n, :t)")', 'p: int, n: str, t: int, q: str', 'int'),
    ('spm', 'query.sql("UPDATE orders SET name = :n, total = :t WHERE id = :i")', 'n: str, t: str, i: int', 'int'),
    ('spm', 'query.sql("UPDATE orders SET name = :n, nope = :t WHERE id = :i")', 'n: str, t: int, i: int', 'int'),
    ('spm', 'query.sql("DELETE FROM orders WHERE person_id = (SELECT id FROM person WHERE nme = :n)")', 'n: str', 'int'),
    ('spm', 'query.sql("DELETE FROM orders WHERE person_id = (SELECT id FROM person WHERE name = :n)")', 'n: int', 'int'),
    ('s', 'query.sql("INSERT OR REPLACE INTO orders (id, nope) VALUES (1, 2)")', '', 'int'),
    ('s', 'query.sql("SELECT id FROM main.persons")', '', 'list[int]'),
    ('s', 'query.sql("SELECT id FROM nowhere.person")', '', 'list[int]'),
    ('s', 'query.sql("SELECT strftime2(\'%Y\', born) FROM person")', '', 'list[str]'),
    ('s', 'query.sql("SELECT substr() FROM person")', '', 'list[str]'),
    ('m', 'query.sql("SELECT id FROM nowhere.person")', '', 'list[int]'),
    ('m', 'query.sql("SELECT substr() FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT substr(1) FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT sum(name) FROM person")', '', 'list[Any]'),
    ('p', 'query.sql("SELECT id FROM person WHERE born > seen || 1")', '', 'list[int]'),
    ('p', 'query.sql("SELECT to_char(born, \'YYYY\') FROM person")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE token = :t")', 't: str', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE active = :t")', 't: str', 'list[int]'),
    ('p', 'query.sql("INSERT INTO person (id, mood) VALUES (1, \'nope\')")', '', 'int'),
    ('p', 'query.sql("SELECT CASE WHEN age > 1 THEN \'a\' ELSE 2 END FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT jsonb_path_nope(data) FROM person")', '', 'list[Any]'),
    ('spm', 'query("age > :a AND name = :a")', 'a: int', 'list[Person]'),
    ('spm', 'query("name = :n")', 'n: list[str]', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE id = :n")', 'n: list[int]', 'list[int]'),
    ('spm', 'query.sql("SELECT * FROM orders")', '', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE id = 1")', '', 'dt.date'),
    ('spm', 'query.sql("SELECT age FROM person WHERE id = 1 AND age > 0")', '', 'bytes'),
    ('spm', "query.many(lambda self: select(Person).where(Person.name == literal_column('nope')))", None, 'Person'),
    ('spm', "query.execute(lambda self: update(Person).values(age=1).where(text('nope = 1')))", None, 'Person'),
    ('spm', 'query', '*, token: int', 'list[Person]'),
    ('spm', 'query', '*, score__gt: str', 'list[Person]'),
    ('spm', 'query', '*, mood: Other', 'list[Person]'),
    ('spm', 'query', '*, name__in: list[dt.date]', 'int'),
    ('spm', 'query', '*, age__between: tuple[str, str]', 'list[Person]'),
    ('spm', 'query', '*, age: str | None', 'list[Person]'),
    ('spm', 'query', '*, age: str | None, name__in: list[int]', 'list[Person]'),
    ('spm', 'query', '*, name__startswith: int', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n IN :x")', 'x: list[str]', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n NOT IN (:x)")', 'x: tuple[uuid.UUID, ...]', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM plain WHERE n = ANY(:x)")', 'x: list[str]', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM plain WHERE n = ANY(:x)")', 'x: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n = :x")', 'x: uuid.UUID', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n >= :x")', 'x: dt.datetime', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n = :x")', 'x: Mood', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n = :x")', 'x: Level', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE d IN :x")', 'x: list[int]', 'list[int]'),
    ('spm', 'query.sql("UPDATE plain SET n = :x")', 'x: float', 'int'),
    ('spm', 'query.sql("DELETE FROM plain WHERE n IN :x")', 'x: frozenset[str]', 'int'),
    ('a', 'query.sql("SELECT id FROM plain WHERE n > :x")', 'x: float', 'list[int]'),
    ('a', 'query.sql("SELECT id FROM plain WHERE n > :x")', 'x: Decimal', 'list[int]'),
    ('y', 'query.sql("SELECT id FROM plain WHERE n = :x")', 'x: bool', 'list[int]'),
    ('s', 'query.sql("SELECT id FROM plain WHERE length(s) > :x")', 'x: Decimal', 'list[int]'),
    ('p', 'query.sql("SELECT CAST(data AS jsonb) @> :x FROM person")', 'x: int', 'list[bool]'),
    ('spm', 'query("mood = :x")', 'x: int', 'list[Person]'),
    ('spm', 'query("mood IN :x")', 'x: list[Other]', 'list[Person]'),
    ('sam', 'query("name = :x")', 'x: Mood', 'list[Person]'),
    ('p', 'query("id > :x")', 'x: float', 'list[Person]'),
    ('spm', 'query.sql("SELECT ts FROM plain")', '', 'list[dt.date]'),
    ('spm', 'query.sql("SELECT p.ts FROM plain p WHERE p.id = 1")', '', 'dt.date | None'),
    ('spm', 'query.sql("SELECT d FROM plain")', '', 'list[dt.datetime]'),
    ('spm', 'query.sql("SELECT ts FROM plain")', '', 'list[Day]'),
    ('spm', 'query.sql("SELECT d FROM plain")', '', 'list[Decimal]'),
    ('spm', 'query.sql("SELECT x FROM plain")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT n FROM plain")', '', 'list[Mood]'),
    ('pm', 'query.sql("SELECT mood FROM person WHERE mood IS NOT NULL")', '', 'list[Other]'),
    ('spm', 'query.sql("SELECT id, s FROM plain WHERE id = 1")', '', 'tuple[int]'),
    ('spm', 'query.sql("SELECT * FROM plain")', '', 'list[tuple[int, str]]'),
    ('spm', 'query.sql("SELECT s, id FROM plain")', '', 'AsyncIterator[tuple[int, str]]'),
    ('spm', 'query.sql("SELECT id, d FROM plain")', '', 'list[tuple[int, ...]]'),
    ('s', 'query.sql("SELECT id, d FROM plain")', '', 'list[tuple[int, dt.date]]'),
    ('spm', 'query.sql("SELECT id, s FROM plain")', '', 'list[dict[str, int]]'),
    ('spm', 'query.sql("SELECT s AS name FROM plain")', '', 'list[Lists]'),
    ('spm', 'query("id > 0")', '', 'list[Numbered]'),
    ('spm', 'query', '*, id: int', 'Numbered | None'),
    ('s', 'query.sql(\'SELECT id FROM plain WHERE s = "nocolumn"\')', '', 'list[int]'),
    ('s', 'query.sql(\'DELETE FROM plain WHERE "idd" = 1 RETURNING "id"\')', '', 'list[int]'),
    ('s', 'query(\'email = "nocolumn"\')', '', 'list[Person]'),
    ('say', 'query.sql("UPDATE plain SET n = :x; UPDATE plain SET n = :x")', 'x: int', 'None'),
    ('sa', 'query.sql("DELETE FROM plain; DELETE FROM orders")', '', 'None'),
    ('spm', 'query.sql("INSERT INTO plain (id, n, nope) SELECT 1, 2, 3")', '', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) SELECT id, name FROM person WHERE age = :a")', 'a: int', 'int'),
    ('m', 'query.sql("REPLACE INTO orders (id, person_id) SELECT id, id, age FROM person")', '', 'int'),
    ('m', 'query.sql("INSERT INTO orders (id, person_id) SELECT id, id, age FROM person ON DUPLICATE KEY UPDATE total = 1")', '', 'int'),
]
RIGHT: list[tuple[str, str, str | None, str]] = [
    ('spm', 'query("name = :n")', 'n: str', 'list[Person]'),
    ('spm', 'query("name LIKE :n OR age > :a")', 'n: str, a: int', 'list[Person]'),
    ('spm', 'query("id IN (SELECT person_id FROM orders WHERE name = :n)")', 'n: str', 'list[Person]'),
    ('spm', 'query("EXISTS (SELECT 1 FROM orders o WHERE o.person_id = person.id AND o.total > :t)")', 't: int', 'list[Person]'),
    ('spm', 'query("id BETWEEN :a AND :b")', 'a: int, b: int', 'list[Person]'),
    ('spm', 'query("mood = :m AND born < :d AND seen > :s AND score > :p AND active = :x AND token = :t AND rate > :r")', 'm: Mood, d: dt.date, s: dt.datetime, p: Decimal, x: bool, t: uuid.UUID, r: float', 'list[Person]'),
    ('spm', 'query("score > :p")', 'p: int', 'list[Person]'),
    ('spm', 'query("id IN (:a) AND name NOT IN :b")', 'a: list[int], b: set[str]', 'int'),
    ('spm', 'query("name = :n -- a :comment\\n AND age IS NOT NULL")', 'n: str', 'bool'),
    ('spm', 'query("name = \'it\'\'s :x\'")', '', 'list[Person]'),
    ('pm', 'query.sql("SELECT id FROM person WHERE id = :i FOR UPDATE")', 'i: int', 'int | None'),
    ('pm', 'query.sql("SELECT id FROM person ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")', '', 'int | None'),
    ('p', 'query.sql("SELECT id FROM person FOR NO KEY UPDATE OF person NOWAIT")', '', 'list[int]'),
    ('m', 'query.sql("SELECT id FROM person LOCK IN SHARE MODE")', '', 'list[int]'),
    ('spm', 'query.sql("WITH a AS (SELECT id FROM person WHERE age > :a) SELECT id FROM a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :m) SELECT i FROM n")', 'm: int', 'list[int]'),
    ('p', 'query.sql("WITH gone AS (DELETE FROM orders WHERE total < :t RETURNING id) SELECT id FROM gone")', 't: int', 'list[int]'),
    ('p', 'query.sql("WITH gone AS MATERIALIZED (SELECT * FROM orders) SELECT id, name FROM gone")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id, row_number() OVER (PARTITION BY age ORDER BY id) AS place FROM person")', '', 'list[tuple]'),
    ('spm', 'query.sql("SELECT id, sum(total) OVER w AS s FROM orders WINDOW w AS (PARTITION BY person_id)")', '', 'list[dict[str, Any]]'),
    ('p', 'query.sql("SELECT p.id FROM person p, LATERAL (SELECT o.id FROM orders o WHERE o.person_id = p.id LIMIT 1) x")', '', 'list[int]'),
    ('p', 'query.sql("SELECT p.id FROM person p CROSS JOIN LATERAL (SELECT 1) x WHERE p.name = :a::text AND p.age = :b::int")', 'a: str, b: int', 'list[int]'),
    ('p', 'query.sql("SELECT id::text FROM person")', '', 'list[str]'),
    ('spm', 'query.sql("SELECT CAST(id AS char(10)) FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT id FROM person WHERE data::jsonb ? \'a\'")', '', 'list[int]'),
    ('p', 'query.sql("SELECT data::jsonb ->> \'a\' FROM person")', '', 'list[str | None]'),
    ('p', 'query.sql("SELECT id FROM person WHERE id = ANY(:ids)")', 'ids: list[int]', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE seen > now() - interval \'1 day\' AND born < current_date")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE seen > :s::timestamp - :d::interval")', 's: dt.datetime, d: dt.timedelta', 'list[int]'),
    ('p', 'query.sql("SELECT x FROM generate_series(1, :n) x")', 'n: int', 'list[int]'),
    ('p', 'query.sql("SELECT unnest(ARRAY[1, 2])")', '', 'list[int]'),
    ('p', 'query.sql("SELECT array_agg(id) FROM person")', '', 'Any'),
    ('p', 'query.sql("SELECT id FROM elsewhere.far WHERE n > :least")', 'least: int', 'list[int]'),
    ('p', 'query.sql("SELECT f.id FROM elsewhere.far AS f WHERE f.n > :least")', 'least: int', 'list[int]'),
    ('p', 'query.sql("SELECT \\"id\\", \\"name\\" FROM \\"person\\"")', '', 'list[Named]'),
    ('m', 'query.sql("SELECT `id`, `name` FROM `person`")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE name LIKE \'50%\' AND id % 2 = 0")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id -- not :a\\n FROM person /* nor :b */")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id, name FROM a_view")', '', 'list[Named]'),
    ('spm', 'query.sql("SELECT v.name FROM a_view v WHERE v.id = :i")', 'i: int', 'list[str]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE (:a IS NULL OR age = :a)")', 'a: int | None', 'list[int]'),
    ('spm', 'query.sql("SELECT mood FROM person")', '', 'list[Mood | None]'),
    ('spm', 'query.sql("SELECT born FROM person")', '', 'list[dt.date | None]'),
    ('spm', 'query.sql("SELECT seen FROM person WHERE seen IS NOT NULL")', '', 'list[dt.datetime]'),
    ('spm', 'query.sql("SELECT score FROM person WHERE score > 0")', '', 'list[Decimal]'),
    ('spm', 'query.sql("SELECT score FROM person WHERE score > 0")', '', 'list[float]'),
    ('spm', 'query.sql("SELECT active FROM person")', '', 'list[bool]'),
    ('spm', 'query.sql("SELECT token FROM person")', '', 'list[uuid.UUID | None]'),
    ('spm', 'query.sql("SELECT count(*) FROM person")', '', 'int'),
    ('spm', 'query.sql("SELECT sum(total) FROM orders")', '', 'int | None'),
    ('spm', 'query.sql("SELECT coalesce(sum(total), 0) FROM orders")', '', 'int'),
    ('spm', 'query.sql("SELECT avg(total) FROM orders")', '', 'float | None'),
    ('spm', 'query.sql("SELECT max(total) FROM orders GROUP BY person_id")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT EXISTS (SELECT 1 FROM person)")', '', 'bool'),
    ('spm', 'query.sql("SELECT 1")', '', 'int'),
    ('spm', 'query.sql("SELECT age FROM person WHERE age > 3")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT p.id, o.total FROM person p JOIN orders o ON o.person_id = p.id")', '', 'list[Priced]'),
    ('spm', 'query.sql("SELECT p.id, o.id AS oid FROM person p LEFT JOIN orders o ON o.person_id = p.id")', '', 'list[dict[str, Any]]'),
    ('spm', 'query.sql("SELECT p.*, o.total FROM person p JOIN orders o ON o.person_id = p.id")', '', 'list[dict[str, Any]]'),
    ('spm', 'query.sql("SELECT * FROM person WHERE age > :a")', 'a: int, page: PageRequest', 'Page[Person]'),
    ('spm', 'query.sql("SELECT * FROM person WHERE age > :a")', 'a: int', 'list[Person]'),
    ('spm', 'query.sql("SELECT p.* FROM person p")', '', 'AsyncIterator[Person]'),
    ('spm', 'query("name LIKE :p")', 'p: str, page: CursorRequest', 'CursorPage[Person]'),
    ('spm', 'query.sql("SELECT id FROM person; -- end")', '', 'list[int]'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t)")', 'p: int, n: str, t: int', 'int'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t), (:p, :n, 5)")', 'p: int, n: str, t: int', 'None'),
    ('spm', 'query.sql("INSERT INTO orders (person_id, name, total) SELECT id, name, :t FROM person")', 't: int', 'int'),
    ('sp', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t) RETURNING id")', 'p: int, n: str, t: int', 'int'),
    ('sp', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t) ON CONFLICT (person_id, name) DO UPDATE SET total = excluded.total")', 'p: int, n: str, t: int', 'int'),
    ('sp', 'query.sql("INSERT INTO person (id, name, email, active, data) VALUES (:i, :n, :e, :x, :d) ON CONFLICT (email) DO NOTHING")', 'i: int, n: str, e: str, x: bool, d: dict[str, Any]', 'int'),
    ('sp', 'query.sql("INSERT INTO orders AS o (person_id, name, total) VALUES (:p, \'x\', 1) ON CONFLICT (person_id, name) DO UPDATE SET total = o.total + :t RETURNING id, name")', 'p: int, t: int', 'list[Named]'),
    ('m', 'query.sql("INSERT INTO orders (person_id, name, total) VALUES (:p, :n, :t) ON DUPLICATE KEY UPDATE total = VALUES(total) + :t")', 'p: int, n: str, t: int', 'int'),
    ('m', 'query.sql("REPLACE INTO orders (id, person_id, name, total) VALUES (1, :p, :n, 1)")', 'p: int, n: str', 'int'),
    ('m', 'query.sql("INSERT IGNORE INTO orders (person_id, name, total) VALUES (:p, :n, 1)")', 'p: int, n: str', 'int'),
    ('s', 'query.sql("INSERT OR IGNORE INTO orders (person_id, name, total) VALUES (:p, :n, 1)")', 'p: int, n: str', 'int'),
    ('spm', 'query.sql("UPDATE person SET score = :s WHERE id = :i")', 's: int, i: int', 'int'),
    ('spm', 'query.sql("UPDATE person SET age = age + :n WHERE id = :i")', 'n: int, i: int', 'bool'),
    ('spm', 'query.sql("UPDATE person SET age = :a")', 'a: int | None', 'int'),
    ('p', 'query.sql("UPDATE orders SET total = p.age FROM person p WHERE p.id = orders.person_id AND p.name = :n")', 'n: str', 'int'),
    ('m', 'query.sql("UPDATE orders o JOIN person p ON p.id = o.person_id SET o.total = p.age WHERE p.name = :n")', 'n: str', 'int'),
    ('m', 'query.sql("DELETE o FROM orders o JOIN person p ON p.id = o.person_id WHERE p.name = :n")', 'n: str', 'int'),
    ('p', 'query.sql("DELETE FROM orders USING person p WHERE p.id = orders.person_id AND p.name = :n")', 'n: str', 'int'),
    ('sp', 'query.sql("DELETE FROM person WHERE id = :i RETURNING id, name")', 'i: int', 'list[Named]'),
    ('spm', 'query.sql("DELETE FROM person WHERE id = :i RETURNING *")', 'i: int', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE name = :n")', 'n: Literal["a", "b"]', 'list[int]'),
    ('spm', 'query.sql("SELECT o.id FROM orders o WHERE o.name = :name")', 'name: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM other WHERE n > :a AND t = :b")', 'a: int, b: str', 'list[int]'),
    ('spm', 'query.many(lambda self: select(Person).where(Person.age > 3).with_for_update())', None, 'Person'),
    ('spm', 'query.many(lambda self: select(Person))', None, 'Person'),
    ('spm', 'query.scalar(lambda self: select(func.count()).select_from(Person))', None, 'Person'),
    ('spm', 'query.execute(lambda self: update(Person).values(age=1))', None, 'Person'),
    ('spm', "query.execute(lambda self: insert(Purchase).values(person_id=1, name='x', total=1))", None, 'Person'),
    ('spm', 'query', '*, name__in: list[str], born__between: tuple[dt.date, dt.date], age__isnull: bool', 'list[Person]'),
    ('spm', 'query', '*, name__startswith: str, token: uuid.UUID | None', 'list[Person]'),
    ('p', 'query.sql("SHOW timezone")', '', 'str'),
    ('p', 'query.sql("SHOW ALL")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("SHOW TABLES")', '', 'list[str]'),
    ('m', 'query.sql("SHOW VARIABLES LIKE \'version%\'")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("SHOW COLUMNS FROM person LIKE :name")', 'name: str', 'list[dict[str, Any]]'),
    ('s', 'query.sql("PRAGMA user_version")', '', 'int'),
    ('s', 'query.sql("PRAGMA table_info(person)")', '', 'list[dict[str, Any]]'),
    ('s', 'query.sql("PRAGMA foreign_keys = ON")', '', 'None'),
    ('pm', 'query.sql("TRUNCATE TABLE orders")', '', 'None'),
    ('p', 'query.sql("TRUNCATE orders, person RESTART IDENTITY CASCADE")', '', 'None'),
    ('p', 'query.sql("LOCK TABLE orders IN SHARE MODE")', '', 'None'),
    ('p', 'query.sql("ANALYZE orders")', '', 'None'),
    ('p', 'query.sql("ANALYZE")', '', 'None'),
    ('p', 'query.sql("VACUUM person")', '', 'None'),
    ('p', 'query.sql("REFRESH MATERIALIZED VIEW mat")', '', 'None'),
    ('p', 'query.sql("SET LOCAL statement_timeout = 5000")', '', 'None'),
    ('p', 'query.sql("NOTIFY ch")', '', 'None'),
    ('p', 'query.sql("SELECT pg_notify(\'a\', :b)")', 'b: str', 'None'),
    ('p', 'query.sql("SELECT pg_advisory_xact_lock(:n)")', 'n: int', 'None'),
    ('p', 'query.sql("SELECT id FROM mat")', '', 'list[int]'),
    ('p', 'query.sql("CALL rest(:n)")', 'n: int', 'None'),
    ('m', 'query.sql("CALL rest(:n)")', 'n: int', 'None'),
    ('p', 'query.sql("DO $$ BEGIN PERFORM 1; END $$")', '', 'None'),
    ('p', 'query.sql("EXPLAIN SELECT 1")', '', 'list[str]'),
    ('m', 'query.sql("EXPLAIN SELECT 1")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("ANALYZE TABLE orders")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("OPTIMIZE TABLE orders")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("SET @n = 5")', '', 'None'),
    ('m', 'query.sql("DO SLEEP(0)")', '', 'None'),
    ('m', 'query.sql("LOCK TABLES orders READ")', '', 'None'),
    ('m', 'query.sql("SELECT @@version")', '', 'str'),
    ('s', 'query.sql("ANALYZE orders")', '', 'None'),
    ('s', 'query.sql("VACUUM")', '', 'None'),
    ('p', 'query.sql("SELECT id FROM person WHERE name ~ :p AND name ILIKE :q")', 'p: str, q: str', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE (id, name) IN ((:a, :b))")', 'a: int, b: str', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE born = make_date(:y, 1, 1)")', 'y: int', 'list[int]'),
    ('p', 'query.sql("SELECT CASE WHEN age > :a THEN name ELSE :b END FROM person")', 'a: int, b: str', 'list[str | None]'),
    ('p', 'query.sql("SELECT jsonb_build_object(\'a\', :b::text)")', 'b: str', 'dict[str, Any]'),
    ('p', 'query.sql("SELECT E\'it\\\\\'s :x\' AS said FROM person WHERE name = :name")', 'name: str', 'list[str]'),
    ('m', 'query.sql("SELECT \'it\\\\\'s :x\' AS said FROM person WHERE name = :name # :comment")', 'name: str', 'list[str]'),
    ('p', 'query.sql("SELECT extract(year FROM born) FROM person WHERE born IS NOT NULL")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person TABLESAMPLE SYSTEM (10)")', '', 'list[int]'),
    ('p', 'query.sql("SELECT a.id FROM person a NATURAL JOIN orders b")', '', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM ONLY person p WHERE p.age IS DISTINCT FROM :a")', 'a: int | None', 'list[int]'),
    ('p', 'query.sql("COPY person TO STDOUT")', '', 'None'),
    ('p', 'query.sql("VALUES (1, \'a\'), (2, \'b\')")', '', 'list[tuple]'),
    ('p', 'query.sql("TABLE person")', '', 'list[Person]'),
    ('p', 'query.sql("MERGE INTO orders o USING person p ON p.id = o.person_id WHEN MATCHED THEN UPDATE SET total = 1")', '', 'int'),
    ('p', 'query.sql("SELECT max(id) FILTER (WHERE age > 1) OVER () FROM person")', '', 'list[int | None]'),
    ('spm', 'query.sql("SELECT :n AS n, id FROM person")', 'n: str', 'list[dict[str, Any]]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE length(name) > :n")', 'n: int', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE lower(name) = lower(:n)")', 'n: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person ORDER BY id LIMIT :n OFFSET :m")', 'n: int, m: int', 'list[int]'),
    ('spm', 'query.sql("SELECT p.name, count(o.id) FROM person p LEFT JOIN orders o ON o.person_id = p.id GROUP BY p.name HAVING count(o.id) > :n")', 'n: int', 'list[tuple]'),
    ('spm', 'query.sql("SELECT id FROM person EXCEPT SELECT person_id FROM orders")', '', 'list[int]'),
    ('pm', 'query.sql("(SELECT id FROM person) UNION ALL (SELECT id FROM orders)")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT DISTINCT name FROM person")', '', 'list[str]'),
    ('p', 'query.sql("SELECT DISTINCT ON (name) id, name FROM person ORDER BY name, id")', '', 'list[Named]'),
    ('s', 'query.sql("SELECT id FROM person WHERE rowid = :i")', 'i: int', 'list[int]'),
    ('s', 'query.sql("SELECT json_extract(data, \'$.a\') FROM person")', '', 'list[int | None]'),
    ('s', 'query.sql("SELECT name FROM sqlite_master WHERE type = :t")', 't: str', 'list[str]'),
    ('s', 'query.sql("SELECT value FROM json_each(:j)")', 'j: str', 'list[int]'),
    ('pm', 'query.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = :s")', 's: str', 'list[str]'),
    ('p', 'query.sql("SELECT relname FROM pg_class WHERE oid = :o")', 'o: int', 'list[str]'),
    ('spm', 'query.sql("DELETE FROM orders")', '', 'None'),
    ('s', 'query.sql("SELECT p.id FROM main.person p WHERE p.age > :a")', 'a: int', 'list[int]'),
    ('m', 'query.sql("SELECT t.table_name FROM information_schema.tables t")', '', 'list[str]'),
    ('spm', 'query.sql("SELECT sum(total) AS total FROM orders GROUP BY name HAVING sum(total) > :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT x.total FROM (SELECT sum(total) AS total FROM orders GROUP BY name) x WHERE x.total > :a")', 'a: int', 'list[int]'),
    ('spm', 'query.sql("SELECT a.id FROM person a JOIN person b ON a.id = b.id AND b.name = :n WHERE a.age = :x")', 'n: str, x: int', 'list[int]'),
    ('spm', 'query.sql("SELECT CASE WHEN age IS NULL THEN 0 ELSE age END AS age, id FROM person")', '', 'list[Grown]'),
    ('spm', 'query.sql("SELECT coalesce(age, 0) FROM person")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT o.total FROM person p LEFT JOIN orders o ON o.person_id = p.id WHERE o.id IS NOT NULL")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT o.total FROM person p LEFT JOIN orders o ON o.person_id = p.id")', '', 'list[int | None]'),
    ('spm', 'query.sql("SELECT p.id, coalesce(o.total, 0) AS total FROM person p LEFT JOIN orders o ON o.person_id = p.id")', '', 'list[Priced]'),
    ('spm', 'query.sql("SELECT (SELECT count(*) FROM orders o WHERE o.person_id = p.id) FROM person p")', '', 'list[int]'),
    ('sp', 'query.sql("SELECT name || :x FROM person")', 'x: str', 'list[str]'),
    ('spm', 'query.sql("SELECT upper(name) FROM person WHERE name LIKE :x")', 'x: str', 'list[str]'),
    ('spm', 'query.sql("SELECT age * 2 FROM person WHERE age > 1")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE CASE WHEN :a > 1 THEN age ELSE id END = :b")', 'a: int, b: int', 'list[int]'),
    ('spm', 'query.sql("UPDATE person SET age = CASE WHEN age > :a THEN :b ELSE age END")', 'a: int, b: int', 'int'),
    ('spm', 'query.sql("UPDATE person SET age = (SELECT max(total) FROM orders WHERE name = :n)")', 'n: str', 'int'),
    ('spm', 'query.sql("UPDATE person SET data = :d WHERE id = :i")', 'd: dict[str, Any], i: int', 'int'),
    ('spm', 'query.sql("UPDATE person SET mood = :m WHERE mood <> :m")', 'm: Mood', 'int'),
    ('spm', 'query.sql("INSERT INTO other (id, n, t) VALUES (:i, :n, NULL)")', 'i: int, n: int', 'int'),
    ('m', 'query.sql("INSERT INTO orders (person_id, name, total) SELECT p.id, concat(p.name, \',\'), (SELECT count(*) FROM person) FROM person p JOIN orders o ON o.id = p.id ON DUPLICATE KEY UPDATE total = VALUES(total) + 1")', '', 'int'),
    ('m', 'query.sql("INSERT INTO orders (person_id, name, total) WITH x AS (SELECT id, name FROM person) SELECT id, name, :t FROM x UNION SELECT 1, \'y\', 2")', 't: int', 'int'),
    ('m', 'query.sql("INSERT IGNORE INTO orders (person_id, name, total) (SELECT id, name, 1 FROM person)")', '', 'int'),
    ('m', 'query.sql("INSERT INTO other (n, t) SELECT p.* FROM (SELECT id, name FROM person) p RETURNING n")', '', 'list[int]'),
    ('spm', 'query.sql("INSERT INTO other (n, t) SELECT :n, name FROM person WHERE age = :a")', 'n: int, a: int', 'int'),
    ('spm', 'query.sql("INSERT INTO other VALUES (:i, :n, :t)")', 'i: int, n: int, t: str | None', 'int'),
    ('spm', 'query.sql("SELECT id FROM person WHERE active = :x")', 'x: bool', 'list[int]'),
    ('sm', 'query.sql("SELECT id FROM person WHERE active")', '', 'list[int]'),
    ('spm', 'query.sql("SELECT active FROM person WHERE id = :i")', 'i: int', 'bool | None'),
    ('spm', 'query.sql("SELECT data FROM person")', '', 'list[Any]'),
    ('spm', 'query.sql("SELECT id, name FROM person WHERE id = :i")', 'i: int', 'Named | None'),
    ('spm', 'query.sql("SELECT id, name, age FROM person WHERE id = :i")', 'i: int', 'tuple[int, str, int | None]'),
    ('spm', 'query("id = :i")', 'i: int', 'Named | None'),
    ('spm', 'query("age IS NOT NULL")', '', 'list[Grown]'),
    ('spm', 'query("id > :i AND data IS NOT NULL")', 'i: int', 'int'),
    ('spm', 'query("lower(name) = lower(:n) AND (born IS NULL OR born < :d)")', 'n: str, d: dt.date | None', 'list[Person]'),
    ('spm', 'query("name IN :n")', 'n: tuple[str, ...]', 'list[Person]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE seen BETWEEN :a AND :b")', 'a: dt.datetime, b: dt.datetime', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE born = :d AND score >= :s")', 'd: dt.date, s: Decimal', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM person WHERE rate >= :s")', 's: float', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE name = ANY(:n)")', 'n: list[str]', 'list[int]'),
    ('p', 'query.sql("SELECT array_agg(name) FROM person")', '', 'Any'),
    ('p', 'query.sql("SELECT string_agg(name, :s ORDER BY id) FROM person")', 's: str', 'str | None'),
    ('p', 'query.sql("SELECT date_trunc(\'day\', seen) FROM person WHERE seen IS NOT NULL")', '', 'list[dt.datetime]'),
    ('p', 'query.sql("SELECT count(*) FILTER (WHERE age > :a) FROM person")', 'a: int', 'int'),
    ('p', 'query.sql("SELECT id FROM person WHERE data::jsonb @> CAST(:d AS jsonb)")', 'd: str', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM person WHERE (data->>\'a\')::int > :n")', 'n: int', 'list[int]'),
    ('p', 'query.sql("SELECT * FROM person WHERE to_tsvector(name) @@ plainto_tsquery(:q)")', 'q: str', 'list[Person]'),
    ('p', 'query.sql("INSERT INTO other (id, n) VALUES (1, 2) ON CONFLICT DO NOTHING")', '', 'int'),
    ('p', 'query.sql("INSERT INTO other (id, n) VALUES (:i, :n) ON CONFLICT (id) DO UPDATE SET n = other.n + :n WHERE other.n < :m RETURNING n")', 'i: int, n: int, m: int', 'int | None'),
    ('p', 'query.sql("WITH new AS (INSERT INTO orders (person_id, name, total) VALUES (:p, :n, 1) RETURNING id) SELECT new.id FROM new")', 'p: int, n: str', 'int'),
    ('p', 'query.sql("SELECT nextval(\'orders_id_seq\')")', '', 'int'),
    ('p', 'query.sql("SELECT current_user, now()")', '', 'tuple[str, dt.datetime]'),
    ('p', 'query.sql("SELECT pg_try_advisory_lock(:n)")', 'n: int', 'bool'),
    ('p', 'query.sql("CREATE INDEX CONCURRENTLY ix ON person (name)")', '', 'None'),
    ('p', 'query.sql("CREATE TEMP TABLE tmp_x (id int) ON COMMIT DROP")', '', 'None'),
    ('p', 'query.sql("DROP TABLE IF EXISTS nothing_here")', '', 'None'),
    ('m', 'query.sql("CREATE TEMPORARY TABLE tmp_x (id int)")', '', 'None'),
    ('m', 'query.sql("SELECT SQL_NO_CACHE id FROM person USE INDEX (PRIMARY) WHERE id > :i")', 'i: int', 'list[int]'),
    ('m', 'query.sql("SELECT id, @n := 5 FROM person")', '', 'list[tuple[int, int]]'),
    ('m', 'query.sql("SELECT GROUP_CONCAT(name SEPARATOR \',\') FROM person")', '', 'str | None'),
    ('m', 'query.sql("SELECT IF(age > :a, name, NULL) FROM person")', 'a: int', 'list[str | None]'),
    ('m', 'query.sql("SELECT DATE_FORMAT(seen, \'%Y-%m\') FROM person WHERE name LIKE \'a%\'")', '', 'list[str | None]'),
    ('m', 'query.sql("SELECT id FROM person WHERE JSON_EXTRACT(data, \'$.a\') = :v")', 'v: str', 'list[int]'),
    ('m', 'query.sql("INSERT INTO orders SET person_id = :p, name = :n, total = 1")', 'p: int, n: str', 'int'),
    ('m', 'query.sql("SELECT LAST_INSERT_ID()")', '', 'int'),
    ('m', 'query.sql("FLUSH TABLES")', '', 'None'),
    ('m', 'query.sql("SHOW CREATE TABLE orders")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("SELECT GET_LOCK(:n, 0)")', 'n: str', 'int | None'),
    ('m', 'query.sql("CHECK TABLE orders")', '', 'list[dict[str, Any]]'),
    ('m', 'query.sql("SELECT CONCAT(id, :x) FROM person")', 'x: str', 'list[str]'),
    ('m', 'query.sql("SELECT UUID()")', '', 'str'),
    ('m', 'query.sql("SELECT HEX(data) FROM person")', '', 'list[str]'),
    ('m', 'query.sql("SELECT TIME(seen) FROM person WHERE seen > 0")', '', 'list[dt.timedelta]'),
    ('m', 'query.sql("SELECT YEAR(born) FROM person WHERE born > 0")', '', 'list[int]'),
    ('m', 'query.sql("SELECT CAST(id AS CHAR) FROM person")', '', 'list[str]'),
    ('m', 'query.sql("SELECT total / 2 FROM orders")', '', 'list[Decimal]'),
    ('s', 'query.sql("SELECT strftime(\'%Y\', born) FROM person")', '', 'list[str | None]'),
    ('s', 'query.sql("SELECT last_insert_rowid()")', '', 'int'),
    ('s', 'query.sql("SELECT rowid, * FROM person")', '', 'list[dict[str, Any]]'),
    ('s', 'query.sql("SELECT id FROM person WHERE name GLOB :g AND name = :n COLLATE NOCASE")', 'g: str, n: str', 'list[int]'),
    ('s', 'query.sql("REPLACE INTO other (id, n) VALUES (:i, :n)")', 'i: int, n: int', 'int'),
    ('s', 'query.sql("SELECT date(\'now\')")', '', 'dt.date'),
    ('s', 'query.sql("SELECT total(total) FROM orders")', '', 'float'),
    ('s', 'query.sql("PRAGMA foreign_key_check")', '', 'list[dict[str, Any]]'),
    ('s', 'query.sql("EXPLAIN QUERY PLAN SELECT 1")', '', 'list[dict[str, Any]]'),
    ('s', 'query.sql("CREATE TABLE IF NOT EXISTS zz (id int)")', '', 'None'),
    ('s', 'query.sql("VALUES (1), (2)")', '', 'list[int]'),
    ('spm', 'query.many(lambda self: select(Person.id, func.count(Purchase.id)).join(Purchase, Purchase.person_id == Person.id).group_by(Person.id))', None, 'Person'),
    ('spm', "query.many(lambda self: select(Person).from_statement(text('SELECT * FROM person WHERE age > 3')))", None, 'Person'),
    ('spm', 'query.scalar(lambda self: select(func.coalesce(func.max(Purchase.total), 0)))', None, 'Person'),
    ('spm', 'query.many(lambda self: select(Person.name, Person.seen, Person.token, Person.score, Person.active, Person.mood, Person.data, Person.rate))', None, 'Person'),
    ('spm', 'query.many(lambda self: select(Person).where(Person.id.in_([1, 2])).limit(5).offset(2))', None, 'Person'),
    ('sp', "query.many(lambda self: insert(Purchase).values(person_id=1, name='x', total=1).returning(Purchase))", None, 'Person'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE n IN :x AND s IN (:y)")', 'x: set[int], y: list[str]', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM plain WHERE n = ANY(:x) AND s <> ALL(:y::text[])")', 'x: list[int], y: list[str]', 'list[int]'),
    ('sym', 'query.sql("SELECT id FROM plain WHERE n > :x")', 'x: float', 'list[int]'),
    ('ym', 'query.sql("SELECT id FROM plain WHERE n > :x")', 'x: Decimal', 'list[int]'),
    ('p', 'query.sql("SELECT id FROM plain WHERE n > CAST(:x AS numeric) AND n < :y::float8")', 'x: Decimal, y: float', 'list[int]'),
    ('sm', 'query("age > :x")', 'x: float', 'list[Person]'),
    ('sm', 'query', '*, age__gt: float', 'list[Person]'),
    ('spm', 'query("age = :x")', 'x: Level', 'list[Person]'),
    ('sm', 'query.sql("SELECT id FROM plain WHERE d = :x AND ts > :y")', 'x: str, y: str', 'list[int]'),
    ('spm', 'query.sql("SELECT id FROM plain WHERE d IN :x AND ts > :y")', 'x: list[dt.date], y: dt.date', 'list[int]'),
    ('sym', 'query.sql("SELECT id FROM plain WHERE s = :x")', 'x: Mood', 'list[int]'),
    ('spm', 'query.sql("SELECT * FROM offer WHERE price > :p AND level = :l")', 'p: Decimal, l: Level', 'list[Offer]'),
    ('spm', 'query.sql("UPDATE offer SET price = :p WHERE price IN :old")', 'p: Decimal, old: list[Decimal]', 'int'),
    ('spm', 'query.sql("SELECT d FROM plain")', '', 'list[dt.date]'),
    ('p', 'query.sql("SELECT ts::date FROM plain")', '', 'list[dt.date]'),
    ('m', 'query.sql("SELECT CAST(ts AS date) FROM plain")', '', 'list[dt.date]'),
    ('s', 'query.sql("SELECT date(ts) FROM plain")', '', 'list[dt.date]'),
    ('spm', 'query.sql("SELECT n, d, ts, x, s FROM plain")', '', 'list[Plain]'),
    ('spm', 'query.sql("SELECT n FROM plain")', '', 'list[Level]'),
    ('spm', 'query.sql("SELECT s FROM plain")', '', 'list[Mood]'),
    ('spm', 'query.sql("SELECT id, s FROM plain")', '', 'list[tuple[int, str]]'),
    ('pm', 'query.sql("SELECT id, d, ts FROM plain WHERE id = 1")', '', 'tuple[int, dt.date, dt.datetime] | None'),
    ('spm', 'query.sql("SELECT id, n FROM plain")', '', 'list[tuple[float, ...]]'),
    ('spm', 'query.sql("SELECT id, s FROM plain")', '', 'list[dict[str, int | str]]'),
    ('spm', 'query("id > 0")', '', 'list[Named]'),
    ('s', 'query.sql("SELECT max(n, 5) FROM plain")', '', 'list[int]'),
    ('sp', 'query.sql(\'SELECT "p"."id" AS "Some Name" FROM "plain" "p" ORDER BY "Some Name"\')', '', 'list[int]'),
    ('s', 'query.sql(\'INSERT INTO "plain" ("id", "n") VALUES (:i, 1) ON CONFLICT ("id") DO UPDATE SET "n" = "excluded"."n" RETURNING "id"\')', 'i: int', 'int'),
    ('m', 'query.sql(\'SELECT id FROM plain WHERE s = "text"\')', '', 'list[int]'),
    ('y', 'query.sql("UPDATE plain SET n = 1; UPDATE plain SET n = 2")', '', 'None'),
    ('m', 'query.sql("UPDATE plain SET n = 1; UPDATE plain SET n = :x")', 'x: int', 'None'),
    ('s', 'query.sql("INSERT INTO plain (rowid, n, d, ts, x, s) SELECT 1, 2, \'\', \'\', 3, \'\'")', '', 'int'),
]
# fmt: on
_LETTERS = {"aiosqlite": "s", "asyncpg": "pa", "psycopg": "py", "asyncmy": "m", "aiomysql": "m"}
_SET_UP = {
    "s": [],
    "p": [
        "ALTER TABLE drifted ALTER kind TYPE text",
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE elsewhere.far (id int PRIMARY KEY, n int)",
        "CREATE MATERIALIZED VIEW mat AS SELECT id FROM person",
        "CREATE PROCEDURE rest(n int) LANGUAGE sql AS 'SELECT n'",
    ],
    "m": ["ALTER TABLE drifted MODIFY kind varchar(10)", "CREATE PROCEDURE rest(n int) SET @n = n"],
}
_ALL = [
    "ALTER TABLE drifted DROP COLUMN gone",
    "CREATE VIEW a_view AS SELECT id, name FROM person",
    "CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, t VARCHAR(20))",
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, d DATE NOT NULL, ts TIMESTAMP NOT NULL, x NUMERIC(8, 2) NOT NULL, s VARCHAR(20) NOT NULL)",
]


def _declared(decorator: str, parameters: str | None, returns: str) -> type:
    """Return a repository that declares one query, called `asked`."""
    space: dict[str, Any] = {"__name__": __name__}
    if parameters is None:
        space["asked"], entity = eval(decorator), globals()[returns]
    else:
        plain = "" if "AsyncIterator" in returns else "async "
        given = f", {parameters}" if parameters else ""
        exec(f"@{decorator}\n{plain}def asked(self{given}) -> {returns}: ...", globals(), space)
        entity = Drifted if "gone" in parameters else Person
    return types.new_class("One", (Repository[entity],), {}, lambda names: names.update(asked=space["asked"]))  # type: ignore[valid-type]  # a class


async def _complaint(db: Database, *asked: Any) -> str:
    try:
        report = await db.check(_declared(*asked))
    except QueryDeclarationError as refused:
        return str(refused)
    return "; ".join(map(str, report.findings))


@pytest.fixture
async def drifted(db: Database) -> tuple[Database, str]:
    """The tables in a database, one of which is not as its model says, and the letters of the database."""
    letters = _LETTERS[db.engine.dialect.driver]
    await db.create_all(Tables)
    async with db.engine.begin() as connection:
        for statement in [*_ALL, *_SET_UP[letters[0]]]:
            await connection.exec_driver_sql(statement)
    return db, letters


@pytest.mark.timeout(60)
async def test_wrong_queries_are_found_of_every_kind(drifted: tuple[Database, str]) -> None:
    """Wrong tables, columns, functions, types, results, conflict targets and enum values are found."""
    db, letters = drifted

    missed = [
        asked for where, *asked in WRONG if set(letters) & set(where) and not await _complaint(db, *asked)
    ]

    assert missed == []


@pytest.mark.timeout(60)
async def test_right_queries_are_not_complained_of(drifted: tuple[Database, str]) -> None:
    """Locks, CTEs, LATERAL, windows, casts, comments, schemas, views and utility statements are right."""
    db, letters = drifted

    complaints = [
        (asked, said)
        for where, *asked in RIGHT
        if set(letters) & set(where) and (said := await _complaint(db, *asked))
    ]

    assert complaints == []


UNCHECKED = {
    "DELETE FROM plain; DELETE FROM orders": ("ym", "None", "it is several statements"),
    "SELECT upper(s) FROM plain": ("s", "list[str]", "the type of 'upper(s)'"),
    "SELECT s FROM plain": ("spm", "list[dt.date]", "whether each value of 's' is one of date"),
    "SELECT s AS mood FROM plain": ("spm", "list[Mood]", "whether each value of 'mood' is one of Mood"),
}
SAID = [
    (
        "s",
        'SELECT id FROM plain WHERE s = "nope"',
        "",
        "list[int]",
        'takes "nope" as text, because there is no',
    ),
    ("sa", "DELETE FROM plain; SELECT 1", "", "int", "it holds 2 statements, and the driver"),
    (
        "spm",
        "SELECT id, s FROM plain",
        "",
        "list[tuple[int]]",
        "promises tuples of 1, but selects 2 columns.",
    ),
    ("s", "SELECT d FROM plain", "", "list[tuple[dt.date]]", "'d' is promised as date, but it comes as str"),
    (
        "s",
        "SELECT id FROM plain WHERE s = :x",
        "x: Decimal",
        "list[int]",
        "Decimal, but the database compares",
    ),
    (
        "s",
        "SELECT id FROM plain WHERE x + 1 = :x",
        "x: Decimal",
        "list[int]",
        "which the driver cannot send.",
    ),
    ("a", "SELECT id FROM plain WHERE n > :x", "x: float", "list[int]", "`x: int`, or cast it in the text."),
    (
        "spm",
        "SELECT id FROM plain WHERE n IN :x",
        "x: list[bytes]",
        "list[int]",
        "annotate it as `x: list[int]`",
    ),
    (
        "pm",
        "SELECT ts FROM plain",
        "",
        "list[dt.date]",
        "warning: types.One.asked: it is date, but the column 'ts'",
    ),
]


async def test_findings_say_what_is_wrong_and_what_nobody_checked(drifted: tuple[Database, str]) -> None:
    """A finding names both sides and the fix; what the database does not tell is listed as not checked."""
    db, letters = drifted

    for sql, (where, returns, said) in UNCHECKED.items():
        if set(letters) & set(where):
            report = await db.check(_declared(f"query.sql({sql!r})", "", returns))
            assert not report.findings, report
            assert said in str(report.unchecked[0]), report
    for where, sql, parameters, returns, said in SAID:
        if set(letters) & set(where):
            complaint = await _complaint(db, f"query.sql({sql!r})", parameters, returns)
            assert said in complaint, complaint
