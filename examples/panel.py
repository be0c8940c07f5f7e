"""Watch a small shop in the browser: requests, transactions, waits and a query in a loop, as they happen.

Run it:   unitwork examples panel      (--no-browser does not open the page; Ctrl-C ends it)
"""

# mypy: disable-error-code="empty-body"

import argparse
import asyncio
import contextlib
import random
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository, UnexpectedRollbackError, query
from unitwork.integrations.asgi import UnitOfWorkMiddleware
from unitwork.observe import Panel

try:
    import uvicorn
except ModuleNotFoundError:
    sys.exit("This example needs a web server.\n  Fix: pip install uvicorn")

PLANTS = ("Monstera", "Ficus", "Calathea", "Aloe", "Pilea", "Hoya", "Maranta", "Yucca")
EVERY_S = 0.35


class Plant(Base):
    """What is sold, and how many there are."""

    __tablename__ = "plants"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    stock: Mapped[int]


class Order(Base):
    """Who has bought what."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    plant_id: Mapped[int] = mapped_column(ForeignKey(Plant.id))
    customer: Mapped[str] = mapped_column(String(40))


class Note(Base):
    """What was tried, whether it worked or not."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))


class Plants(Repository[Plant]):
    """The door to plants."""

    @query("stock > :least ORDER BY name")
    async def in_stock(self, least: int) -> list[Plant]:
        """Return those of which there are more than `least`."""


class SoldOutError(Exception):
    """There is none left."""


class LostParcelError(Exception):
    """The carrier has said no."""


class Shop:
    """What can be done: no request and no session is passed around."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.plants = Plants(db)
        self.orders = Repository[Order](db)
        self.notes = Repository[Note](db)
        # Decorated here, since the Database is made when the example starts.
        self.buy = db.transactional(self._buy)
        self.note = db.transactional(propagation="REQUIRES_NEW")(self._note)
        self.send = db.transactional(self._send)
        self.take_back = db.transactional(self._take_back)

    async def catalogue(self) -> None:
        """Read in one statement what is there."""
        await self.plants.in_stock(0)

    async def history(self) -> None:
        """Read the orders, and for each its plant: a query in a loop, as the panel says."""
        for order in await self.orders.where(Order.id > 0).order_by(Order.id.desc()).limit(6).all():
            await self.db.session.scalar(select(Plant).where(Plant.id == order.plant_id))
            self.db.session.expunge_all()

    async def _buy(self, customer: str) -> Order:
        plant = await self.plants.get_one(random.randint(1, len(PLANTS)))  # noqa: S311  # no secret
        await asyncio.sleep(0.005)  # the bank thinks
        plant.stock -= 1
        order = await self.orders.add(Order(plant_id=plant.id, customer=customer))
        if plant.stock < 0:
            raise SoldOutError
        return order

    async def try_to_buy(self) -> None:
        """Buy two, of which one may be sold out: a savepoint for each."""
        async with self.db.transaction():
            for customer in ("Ada", "Grace"):
                with contextlib.suppress(SoldOutError):
                    async with self.db.transaction(propagation="NESTED"):
                        await self._buy(customer)

    async def _note(self, text: str) -> None:
        await self.notes.add(Note(text=text))

    async def refund(self) -> None:
        """Go on after a part has failed that takes part in the same transaction: all of it is undone."""
        async with self.db.transaction():
            await self.orders.count()
            with contextlib.suppress(SoldOutError):
                await self.take_back("Hedy")
            await self.plants.get(1)

    async def _take_back(self, customer: str) -> None:
        await self.notes.add(Note(text=f"{customer} wants the money back"))
        raise SoldOutError

    async def _send(self) -> None:
        await self.note("A parcel is to be sent.")
        await self.orders.count()
        if random.choice((True, False, False)):  # noqa: S311  # as above
            raise LostParcelError
        await self.notes.add(Note(text="It was."))

    async def restock(self) -> None:
        """Fill the shelves: one job, in one unit of work."""
        async with self.db.unit_of_work():
            for plant in await self.plants.all():
                plant.stock = 20

    async def report(self) -> None:
        """Read slowly: a read-only block holds its connection meanwhile."""
        async with self.db.transaction(read_only=True):
            await self.plants.all()
            await asyncio.sleep(0.4)
            await self.orders.count()


Work = Callable[[], Awaitable[object]]


def application(shop: Shop) -> Callable[..., Awaitable[None]]:
    """Return the shop as an ASGI application."""
    pages: dict[str, Work] = {
        "GET /plants": shop.catalogue,
        "GET /orders": shop.history,
        "POST /orders": lambda: shop.buy("Ada"),
        "POST /baskets": shop.try_to_buy,
        "POST /refunds": shop.refund,
        "POST /parcels": shop.send,
        "GET /report": shop.report,
    }

    async def answer(scope: dict[str, Any], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        work, status = pages.get(f"{scope['method']} {scope['path']}"), 200
        try:
            if work is None:
                status = 404
            else:
                await work()
        except (SoldOutError, LostParcelError, UnexpectedRollbackError):
            status = 409
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return answer


class Customers:
    """Ask for one page after another, beside each other. Lives: as long as the example."""

    def __init__(self, app: Callable[..., Awaitable[None]], shop: Shop) -> None:
        self._app = app
        self._shop = shop

    async def shop_on(self) -> None:
        """Never end."""
        wishes = ["GET /plants"] * 5 + ["GET /orders"] * 2 + ["POST /orders"] * 4
        wishes += ["POST /baskets", "POST /baskets", "POST /refunds", "POST /parcels", "GET /report"]
        running: set[asyncio.Task[None]] = set()
        for number in range(sys.maxsize):
            tasks = [self._request(random.choice(wishes)) for _ in range(random.choice((1, 1, 2)))]  # noqa: S311
            if number % 25 == 0:
                tasks.append(self._shop.restock())
            running |= {asyncio.ensure_future(task) for task in tasks}
            _, running = await asyncio.wait(running, timeout=EVERY_S)

    async def _request(self, wish: str) -> None:
        method, path = wish.split()
        scope = {"type": "http", "method": method, "path": path, "headers": []}

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(_message: object) -> None:
            """Nobody reads the answer."""

        with contextlib.suppress(UnexpectedRollbackError):  # an answer of 500
            await self._app(scope, receive, send)


async def main() -> None:
    """Open the shop, let customers in, and serve the page until Ctrl-C."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--no-browser", action="store_true", help="do not open the page")
    options.add_argument("--port", type=int, default=0, help="a free one by default")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with Database(f"sqlite+aiosqlite:///{folder}/shop.db", name="shop", pool_size=6) as db:
            await db.create_all(Base)
            shop = Shop(db)
            await shop.plants.add_all(Plant(name=name, stock=4) for name in PLANTS)
            app = UnitOfWorkMiddleware(application(shop), database=db)
            listening = socket.create_server(("127.0.0.1", chosen.port))
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            print(f"The panel is at {address}  (Ctrl-C ends it)", flush=True)
            if not chosen.no_browser:
                webbrowser.open(address)
            # A program of your own mounts it beside its pages: app.mount("/unitwork", Panel(db, ...)).
            panel = Panel(db, development=True)
            server = uvicorn.Server(uvicorn.Config(panel, log_level="warning", ws="none"))
            customers = asyncio.ensure_future(Customers(app, shop).shop_on())
            try:
                await server.serve([listening])
            finally:
                customers.cancel()
                await asyncio.wait({customers})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
