"""Declare dataclass models with shared columns: key, status, times, version, soft deletion."""

import asyncio

from sqlalchemy.orm import Mapped

from unitwork import (
    Database,
    DataclassBase,
    Repository,
    SoftDeleteMixin,
    StatusMixin,
    TimestampMixin,
    UUIDPKMixin,
    VersionMixin,
)


class Lamp(DataclassBase, UUIDPKMixin, StatusMixin, TimestampMixin, VersionMixin, SoftDeleteMixin):
    """Something that can be switched off."""

    __tablename__ = "lamps"
    __uuid_version__ = 7
    name: Mapped[str]


async def main() -> None:
    """Insert, change and hide a row."""
    async with Database("sqlite+aiosqlite:///lamps.db") as db:
        await db.create_all(DataclassBase)
        lamps = Repository[Lamp](db)
        lamp = await lamps.add(Lamp("desk"))
        print(lamp.name, lamp.status, f"version {lamp.version}", f"UUID of version {lamp.id.version}")

        async with db.transaction():
            found = await lamps.get_one(lamp.id)
            found.status = Lamp.Status.DISABLED
        print(found.name, found.status, f"version {found.version}", found.updated_at >= found.created_at)

        async with db.transaction():
            (await lamps.get_one(lamp.id)).soft_delete()
        hidden = lamps.select().execution_options(include_deleted=True)
        print(f"{await lamps.count()} shown, {len(await hidden.all())} stored")
        print(sorted(found.dump_model()))


if __name__ == "__main__":
    asyncio.run(main())
