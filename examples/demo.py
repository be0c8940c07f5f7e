"""The main job of unitwork in five steps: a sign-up service on SQLite, in a temporary folder.

Run it with `make demo`. The service comes first, in the words of its own subject; it begins no
transaction, passes no session and closes nothing by hand. What runs and shows it comes after.
"""

import asyncio
import csv
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import CheckConstraint
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, Propagation, Repository, query, transactional
from unitwork.observe.timeline import Timeline

PEOPLE = Path(__file__).with_name("people.csv")

# -- what is stored --------------------------------------------------------------------------------


class User(Base):
    """Somebody who has signed up."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("email LIKE '%_@_%'", name="email_has_an_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)


class AuditLine(Base):
    """What somebody tried, whether it worked or not."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]


class Users(Repository[User]):
    """The door to users."""

    @query("email = :email")
    async def by_email(self, email: str) -> User | None:
        """Return the user with this address, or None."""


# -- the service -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """One line of the file."""

    name: str
    email: str


class EmailTakenError(Exception):
    """Somebody else has signed up with this address."""


class AccountLockedError(Exception):
    """The account may not be closed now."""


class Audit:
    """Writes down what is tried, in a transaction of its own."""

    def __init__(self) -> None:
        self.lines = Repository[AuditLine]()

    @transactional(propagation=Propagation.REQUIRES_NEW)
    async def note(self, text: str) -> None:
        """Write one line that stays, whatever becomes of the caller's transaction."""
        await self.lines.add(AuditLine(note=text))


class SignUp:
    """Lets people in, and out."""

    def __init__(self, users: Users, audit: Audit) -> None:
        self.users = users
        self.audit = audit

    @transactional
    async def register(self, person: Person) -> User:
        """Sign up one person."""
        if await self.users.by_email(person.email):
            raise EmailTakenError(f"{person.email} has an account already")
        return await self.users.add(User(name=person.name, email=person.email))

    @transactional
    async def register_together(self, *people: Person) -> None:
        """Sign up all of them, or nobody."""
        for person in people:
            await self.register(person)

    @transactional(propagation=Propagation.NESTED)
    async def try_to_register(self, person: Person) -> User:
        """Sign up one person; a failure undoes this part alone."""
        return await self.register(person)

    @transactional
    async def register_who_can(self, people: Sequence[Person]) -> str:
        """Sign up all who can be, in one transaction, and say who could not."""
        refused = []
        for person in people:
            try:
                await self.try_to_register(person)
            except (EmailTakenError, IntegrityError):
                refused.append(person.name)
        return f"refused: {', '.join(refused)}"

    @transactional
    async def close_account(self, email: str) -> None:
        """Fail, so that one can see what stays."""
        await self.audit.note(f"{email} asked to close the account")
        user = await self.users.find_by(email=email)
        if user is not None:
            await self.users.delete(user)
        raise AccountLockedError("this month's bill is not paid")


# -- what runs and shows it ------------------------------------------------------------------------


class Stage:
    """Runs one step at a time and prints what its transactions did."""

    def __init__(self, console: Console, timeline: Timeline) -> None:
        self.console = console
        self.timeline = timeline

    async def step(self, title: str, explanation: str, work: Coroutine[Any, Any, object]) -> None:
        """Print what is about to happen, let it happen, and print what did."""
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        self.console.print(f"{explanation}\n", style="italic")
        self.timeline.clear()
        try:
            received = repr(await work)
        except (EmailTakenError, AccountLockedError, IntegrityError) as error:
            received = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        self.console.print(self.timeline)
        self.console.print(f"\nThe caller gets  {received}\n", markup=False, highlight=False)

    def table(self, title: str, rows: Sequence[Base]) -> None:
        """Print what a table holds."""
        table = Table(title=title, title_justify="left", title_style="bold")
        columns = [column.key for column in rows[0].__table__.columns]
        for name in columns:
            table.add_column(name)
        for row in rows:
            table.add_row(*(str(getattr(row, name)) for name in columns))
        self.console.print(table)


def read_people(file: Path) -> list[Person]:
    """Read the file: a name and an address in each line."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [Person(**line) for line in csv.DictReader(lines)]


async def show(stage: Stage, service: SignUp) -> None:
    """Run the five steps."""
    ada, grace, second_ada, hedy, radia = read_people(PEOPLE)
    await stage.step(
        "1. Create a user",
        "A decorated method is one transaction. The repository finds the session by itself.",
        service.register(ada),
    )
    await stage.step(
        "2. Refuse the duplicate",
        "The same method raises: its transaction is rolled back, and the exception goes on to the caller.",
        service.register(second_ada),
    )
    await stage.step(
        "3. All or nobody",
        "Both sign-ups join the outer transaction. The second fails, and the first leaves nothing either.",
        service.register_together(grace, hedy),
    )
    await stage.step(
        "4. An audit line that stays",
        "REQUIRES_NEW commits on its own, before the block around it deletes Ada and fails. Ada stays too.",
        service.close_account(ada.email),
    )
    await stage.step(
        "5. Parts that are undone alone",
        "One transaction for the rest of the file. Each person is NESTED: a savepoint that can fail alone.",
        service.register_who_can([grace, second_ada, hedy, radia]),
    )


async def main() -> None:
    """Make a database, run the steps on it, and print what is stored in the end."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110
    timeline, users, audit = Timeline(), Users(), Audit()
    stage = Stage(console, timeline)
    console.print("Each block is drawn from its entry ╭ to its outcome ╰, with what it sent in between.\n")
    with tempfile.TemporaryDirectory() as folder:
        async with Database(f"sqlite+aiosqlite:///{folder}/people.db") as db:
            await db.create_all(Base)
            db.observe(timeline)
            await show(stage, SignUp(users, audit))
            console.rule("[bold]What is stored in the end", align="left", style="dim")
            stage.table(f"{await users.count()} users", await users.all())
            stage.table("audit", await audit.lines.all())


if __name__ == "__main__":
    asyncio.run(main())
