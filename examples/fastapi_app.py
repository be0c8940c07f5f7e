"""A small shop in FastAPI: accounts, transfers and their history, with no session passed around.

Run it:   pip install 'unitwork[fastapi,sqlite]' uvicorn
          uvicorn examples.fastapi_app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import String, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Repository
from unitwork.integrations.fastapi import SessionDep, UnitOfWorkMiddleware

db = Database("sqlite+aiosqlite:///shop.db", name="shop")


# -- what is stored ---------------------------------------------------------------------------


class Account(Base):
    """Somebody with a unique name and some money."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(100), unique=True)
    balance: Mapped[int] = mapped_column(default=0)


class Entry(Base):
    """A line of the history."""

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(String(200))


# -- what the shop does: no request, no response, no session ----------------------------------


class NoMoneyError(Exception):
    """The account does not hold that much."""


accounts = Repository[Account](db)
entries = Repository[Entry](db)


@db.transactional
async def open_account(owner: str, balance: int) -> Account:
    """Open an account; its name is checked by the database."""
    return await accounts.add(Account(owner=owner, balance=balance))


@db.transactional
async def transfer(giver_id: int, taker_id: int, amount: int) -> None:
    """Move money: both balances change, or none. Who calls this may have a transaction open."""
    # Locked in one order, whoever gives: two transfers never wait for each other.
    locked = {key: await accounts.get_one(key, lock="update") for key in sorted((giver_id, taker_id))}
    giver, taker = locked[giver_id], locked[taker_id]
    giver.balance -= amount
    taker.balance += amount
    await record(f"{giver.owner} gave {taker.owner} {amount}")
    if giver.balance < 0:
        raise NoMoneyError  # everything above is undone


@db.transactional
async def record(note: str) -> None:
    """Write a line of the history, in the transaction of the caller or in one of its own."""
    await entries.add(Entry(note=note))


# -- the web ----------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables at the start; close the connections at the end."""
    async with db:
        await db.create_all(Base)
        yield


def conflict(error: Exception) -> int | None:
    """Answer 409 when COMMIT fails because of a constraint."""
    return 409 if isinstance(error, IntegrityError) else None


app = FastAPI(title="shop", lifespan=lifespan)
app.add_middleware(UnitOfWorkMiddleware, database=db, on_commit_error=conflict)


class NewAccount(BaseModel):
    """What a client sends to open an account."""

    owner: str = Field(min_length=1, max_length=100)
    balance: int = Field(default=0, ge=0)


class AccountView(BaseModel):
    """What a client sees of an account."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    owner: str
    balance: int


class Transfer(BaseModel):
    """What a client sends to move money."""

    giver_id: int
    taker_id: int
    amount: int = Field(gt=0)


@app.post("/accounts", status_code=201)
async def create(new: NewAccount) -> AccountView:
    """Open an account."""
    try:
        account = await open_account(new.owner, new.balance)
    except IntegrityError:
        raise HTTPException(409, "This name is taken.") from None
    return AccountView.model_validate(account)


@app.get("/accounts/{account_id}")
async def show(account_id: int) -> AccountView:
    """Show an account. The connection is back in the pool before the answer is built."""
    account = await accounts.get(account_id)
    if account is None:
        raise HTTPException(404)
    return AccountView.model_validate(account)


@app.put("/accounts/{account_id}/owner")
async def rename(account_id: int, owner: Annotated[str, Query(min_length=1)]) -> None:
    """Rename an account. The change is sent with the COMMIT, which may fail: see `conflict`."""
    account = await accounts.get(account_id)
    if account is None:
        raise HTTPException(404)
    account.owner = owner


@app.post("/transfers", status_code=204)
async def move(order: Transfer, tasks: BackgroundTasks) -> None:
    """Move money, and write about it when that is stored."""
    try:
        await transfer(order.giver_id, order.taker_id, order.amount)
    except NoMoneyError:
        raise HTTPException(422, "There is not that much money.") from None
    # Runs after the response: `record` begins a transaction of its own there.
    tasks.add_task(record, f"thanked {order.giver_id}")


@app.get("/richest")
async def richest(session: SessionDep) -> list[AccountView]:
    """Plain SQLAlchemy is always there: this is an `AsyncSession`."""
    found = await session.scalars(select(Account).order_by(Account.balance.desc()).limit(3))
    return [AccountView.model_validate(account) for account in found]


@app.get("/history")
async def history() -> StreamingResponse:
    """Stream all lines. The request's own session has ended by then: the body opens a block."""

    async def body() -> AsyncIterator[str]:
        async with db.transaction(read_only=True) as session:
            async for note in await session.stream_scalars(select(Entry.note).order_by(Entry.id)):
                yield f"{note}\n"

    return StreamingResponse(body(), media_type="text/plain")


@app.get("/health")
async def health() -> dict[str, int]:
    """Ask the database; say how many connections are held."""
    async with db.transaction(read_only=True, timeout=2) as session:
        await session.execute(text("SELECT 1"))
    return {"held": db.pool_status().checked_out}
