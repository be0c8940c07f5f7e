"""Rows that are deleted softly are hidden alike on each lane, in whatever way they are asked for."""

# ruff: noqa: RUF012 - `__mapper_args__` is SQLAlchemy's

from typing import Any

import pytest
from sqlalchemy import ForeignKey, MetaData, Select, String, func, inspect, literal, select, text, union_all
from sqlalchemy.orm import Mapped, aliased, column_property, contains_eager, mapped_column, relationship

from tests.behaviour.test_lanes_hierarchies import Story, on_each_lane, selected
from tests.properties.test_lanes_agree import seen
from unitwork import Base, Database, PageRequest, Repository
from unitwork.models import SoftDeleteMixin
from unitwork.options import Lane


class Tables(Base):
    """The base of these tables, apart from those that every database has."""

    __abstract__ = True
    metadata = MetaData()


class Twig(SoftDeleteMixin, Tables):
    """Hidden when it is deleted."""

    __tablename__ = "twig"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    branch_id: Mapped[int] = mapped_column(ForeignKey("branch.id"))

    branch: Mapped["Branch"] = relationship(back_populates="twigs")


class Branch(Tables):
    """Is never hidden, but counts what is."""

    __tablename__ = "branch"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]

    twigs: Mapped[list[Twig]] = relationship(back_populates="branch", order_by=Twig.id)


class CountedBranch(Tables):
    """The same rows, and how many there are of those that may be hidden."""

    __table__ = Branch.__table__

    of_all: Mapped[int] = column_property(
        select(func.count(Twig.id)).where(Twig.branch_id == Branch.__table__.c.id).scalar_subquery()
    )


class Box(SoftDeleteMixin, Tables):
    """The root of a hierarchy that is hidden."""

    __tablename__ = "box"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "box"}

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Crate(Box):
    """In a table of its own."""

    __tablename__ = "crate"
    __mapper_args__ = {"polymorphic_identity": "crate"}

    id: Mapped[int] = mapped_column(ForeignKey("box.id"), primary_key=True)
    wood: Mapped[str] = mapped_column(String(20))


class Bag(Tables):
    """Some of its rows alone may be hidden."""

    __tablename__ = "bag"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "bag"}

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Purse(SoftDeleteMixin, Bag):
    """These."""

    __mapper_args__ = {"polymorphic_identity": "purse", "polymorphic_load": "inline"}


OTHER = aliased(Twig)
CLASSES: list[type[Any]] = [Twig, Branch, CountedBranch, Box, Crate, Bag, Purse]
SELECTS: dict[str, Any] = {
    **{f"all of {each.__name__}": select(each).order_by(*inspect(each).primary_key) for each in CLASSES},
    "columns": select(Twig.name).order_by(Twig.id),
    "alias": select(OTHER).order_by(OTHER.id),
    "columns of an alias": select(OTHER.name).order_by(OTHER.id),
    "a subquery": select(select(Twig.name).subquery().c.name),
    "a union": select(union_all(select(Twig.name), select(Twig.name)).subquery().c.name),
    "a list": select(Twig).where(Twig.id.in_([1, 2, 3])).order_by(Twig.id),
    "join": select(Branch).join(Branch.twigs).order_by(Branch.id),
    "join of the other side": select(Twig).join(Twig.branch).where(Branch.id == 1).order_by(Twig.id),
    "outer join": select(Branch.id).outerjoin(Branch.twigs).order_by(Branch.id, Twig.id),
    "nobody by an outer join": (
        select(Twig).select_from(Branch).outerjoin(Branch.twigs).order_by(Branch.id, Twig.id)
    ),
    "exists": select(Branch).where(Branch.twigs.any(Twig.name == "gone")),
    "only in WHERE": select(literal(1)).where(Twig.name == "gone"),
    "counted": select(func.count()).select_from(Twig),
    "scalar subquery": select(select(func.count(Twig.id)).scalar_subquery()),
    "the table": select(Twig.__table__.c.name).order_by(text("1")),
    "shown": select(Twig).order_by(Twig.id).execution_options(include_deleted=True),
    "loaded with": select(Branch).join(Branch.twigs).options(contains_eager(Branch.twigs)),
}
SLOW = {"all of Bag", "all of CountedBranch", "alias", "shown", "loaded with"}


@pytest.fixture
async def wood(db: Database) -> Database:
    """A Database with rows of which some are deleted."""
    await db.create_all(Tables)
    async with db.transaction() as session:
        gone: list[Any] = [
            Twig(id=1, name="gone", branch_id=1),
            Crate(id=2, wood="old"),
            Purse(id=2),
            Box(id=3),
        ]
        session.add_all(
            [Branch(id=1, number=1), Branch(id=2, number=1), Twig(id=2, name="here", branch_id=1), Box(id=1)]
        )
        session.add_all(
            [Twig(id=3, name="here", branch_id=1), Crate(id=4, wood="new"), Bag(id=1), Purse(id=3)]
        )
        session.add_all(gone)
        await session.flush()
        for each in gone:
            each.soft_delete()
    return db


async def keys(db: Database) -> object:
    """Each by its key, as all classes."""
    return [await Repository[each](db).get(key) for each in CLASSES for key in (1, 2, 3, 4)]  # type: ignore[valid-type]  # of this loop


async def related(db: Database) -> object:
    """What is loaded later hides rows as well; so does a refresh."""
    found: list[object] = []
    async with db.transaction() as session:
        for branch in await Repository[Branch](db).where().order_by(Branch.id).all():
            found.append(seen(await branch.awaitable_attrs.twigs))
            await session.refresh(branch, ["twigs"])
            found += [seen(branch), seen(branch.twigs)]
    return found


async def held(db: Database) -> object:
    """An entity that is deleted, restored, or deleted by others while a session holds it."""
    found: list[object] = []
    async with db.transaction() as session:
        twig = await Repository[Twig](db).get_one(2)
        twig.soft_delete()
        found.append(seen(await Repository[Twig](db).all()))
        found += [
            await Repository[Twig](db).get(2),
            await session.get(Twig, 2),
            await session.scalar(select(Twig)),
        ]
        twig.restore()
        await session.flush()
        found.append(seen((await session.scalars(select(Twig).order_by(Twig.id))).all()))
        await Repository[Twig](db).where(Twig.id == 2).update(deleted_at=func.current_timestamp())
        session.expire(twig)
        found += [seen(await Repository[Twig](db).all()), await Repository[Branch](db).get(1)]
        await session.refresh(twig)
        found.append(twig.is_deleted)
        db.set_rollback_only()
    return found


async def numbers(db: Database) -> object:
    """Counts and pages."""
    twigs = Repository[Twig](db)
    where = twigs.where().order_by(Twig.id)
    return (await twigs.count(), await twigs.exists(name="gone"), await where.page(PageRequest(size=2)))


async def computed(db: Database) -> object:
    """What is computed of rows that hide is the same when it is loaded again."""
    found: list[object] = []
    async with db.transaction() as session:
        branches = (
            await Repository[CountedBranch](db).where().order_by(*inspect(CountedBranch).primary_key).all()
        )
        found.append(seen(branches))
        session.expire(branches[0])
        found.append(await branches[0].awaitable_attrs.of_all)
        await session.refresh(branches[1])
        found.append(seen(branches))
    return found


STORIES: dict[str, Story] = {
    "keys": keys,
    "related": related,
    "held": held,
    "computed": computed,
    "numbers": numbers,
}


@pytest.mark.parametrize("place", ["outside", "unit", "block"])
async def test_selects_hide_the_same_on_each_lane(wood: Database, place: str) -> None:
    """In each form of a statement that might show them."""

    async def story(db: Database) -> object:
        return [(name, await selected(db, statement, place)) for name, statement in SELECTS.items()]

    stories = await on_each_lane(wood, story)
    assert stories[Lane.DRIVER] == stories[Lane.SESSION]
    assert stories[Lane.FUSED] == stories[Lane.SESSION]
    assert str(stories[Lane.SESSION]).count("gone") > 0, "who asks for them sees them"


@pytest.mark.parametrize("name", STORIES)
async def test_entities_hide_the_same_on_each_lane(wood: Database, name: str) -> None:
    """By key, by relationships, and where a session holds them."""
    stories = await on_each_lane(wood, STORIES[name])
    assert stories[Lane.DRIVER] == stories[Lane.SESSION]
    assert stories[Lane.FUSED] == stories[Lane.SESSION]


async def test_what_hides_takes_the_fastest_lane(wood: Database) -> None:
    """But for those who ask to see it."""
    await Repository[Branch](wood).get(1)
    selects = {name: each for name, each in SELECTS.items() if isinstance(each, Select)}
    assert {name for name, each in selects.items() if wood.explain_lane(each).lane is Lane.SESSION} == SLOW
