"""Classes that are mapped late change those that were used before, on the fast lanes as well."""

from typing import Any

from sqlalchemy import ForeignKey, MetaData, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column, relationship

from unitwork import Base, Database, Repository


async def test_relationship_that_comes_late_is_known_to_a_flush(db: Database) -> None:
    """What refers to a deleted row by the `backref` of a class that is imported late refers to nothing."""

    class LateBase(DeclarativeBase):
        metadata = MetaData()

    class Early(LateBase):
        __tablename__ = "early"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(String(20))

    await db.create_all(LateBase.metadata)
    async with db.transaction() as session:
        session.add_all([Early(id=1), Early(id=2)])
        await session.flush()
        await session.delete(await session.get_one(Early, 1))

    class Late(LateBase):
        __tablename__ = "late"

        id: Mapped[int] = mapped_column(primary_key=True)
        early_id: Mapped[int | None] = mapped_column(ForeignKey("early.id"))

        early: Mapped[Early | None] = relationship(backref="late")

    configure_mappers()
    await db.create_all(LateBase.metadata)
    async with db.transaction() as session:
        session.add(Late(id=1, early_id=2))
    async with db.transaction() as session:
        await session.delete(await session.get_one(Early, 2))
    async with db.transaction() as session:
        left: Any = (await session.execute(select(Late.id, Late.early_id))).all()
    await db.drop_all(LateBase.metadata)

    assert [tuple(row) for row in left] == [(1, None)]


class Paired(Base):
    """The base of these tables."""

    __abstract__ = True
    metadata = MetaData()


class Key(Paired):
    """Opens one lock."""

    __tablename__ = "key_of_a_lock"

    id: Mapped[int] = mapped_column(primary_key=True)

    lock: Mapped["Lock | None"] = relationship()


class Lock(Paired):
    """Belongs to a key, which may not know of it yet."""

    __tablename__ = "lock_of_a_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[int | None] = mapped_column(ForeignKey("key_of_a_lock.id"))


async def test_only_related_entity_is_set_where_it_was_not_loaded(db: Database) -> None:
    """What was there before is loaded by the flush, not by what looks whether there is something to flush."""
    await db.create_all(Paired.metadata)
    async with db.transaction() as session:
        session.add_all([Key(id=1), Lock(id=1)])
    async with db.transaction() as session:
        key, lock = await session.get_one(Key, 1), await session.get_one(Lock, 1)
        key.lock = lock
    async with db.transaction() as session:
        stored = (await session.get_one(Lock, 1)).key_id
        (await session.get_one(Key, 1)).lock = None
        read = await Repository[Lock](db).where(Lock.key_id.is_(None)).count()

    assert (stored, read) == (1, 1)
