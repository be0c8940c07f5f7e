"""Store many rows at once, again with changes, and say how far it is."""

import asyncio
from collections.abc import Iterator

from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository

COLD = 12


class Reading(Base):
    """What a sensor measured in one hour."""

    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    sensor: Mapped[str]
    hour: Mapped[int] = mapped_column(unique=True)
    degrees: Mapped[float]


def measured(hours: int, *, more: float = 0.0) -> Iterator[dict[str, object]]:
    """Yield rows one by one: however many there are, they are never all in memory."""
    for hour in range(hours):
        yield {"sensor": "roof", "hour": hour, "degrees": 10 + hour % 24 / 2 + more}


def progress(done: int, total: int | None) -> None:
    """Say how far it is; of a generator nobody knows the total."""
    print(f"  {done} of {total or '?'}")


async def main() -> None:
    """Load 5,000 rows, correct them, and delete the cold ones."""
    async with Database("sqlite+aiosqlite:///readings.db") as db:
        await db.create_all(Base)
        readings = Repository[Reading](db)

        print("Loading:")
        await readings.bulk_insert(measured(5_000), returning=False, on_progress=progress)
        print(await readings.count(), "stored")

        print("Correcting by half a degree:")
        await readings.bulk_insert(
            measured(5_000, more=0.5), on_conflict="update", index_elements=["hour"], returning=False
        )
        first = await readings.find_by(hour=0)
        print(await readings.count(), "still, the first has", first and first.degrees, "degrees")

        print(await readings.delete_where(Reading.degrees < COLD), "cold ones deleted")


if __name__ == "__main__":
    asyncio.run(main())
