"""`import unitwork` imports what every program needs: no dialect, no tool, no library of an edge."""

import subprocess
import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

import unitwork

LOADED = "import sys, {what}; print(*sys.modules)"
OF_SOME_PROGRAMS = (
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "aiosqlite",
    "alembic",
    "asyncmy",
    "asyncpg",
    "click",
    "fastapi",
    "msgspec",
    "psycopg",
    "pydantic",
    "pyarrow",
    "pytest",
    "rich",
    "starlette",
)
OURS_OF_SOME_PROGRAMS = (
    "unitwork._logic.findings",
    "unitwork._logic.promises",
    "unitwork._runtime.access.check",
    "unitwork._runtime.blocks.adoption",
    "unitwork._runtime.connections.servers",
    "unitwork._runtime.now",
    "unitwork._runtime.rolled_back",
    "unitwork.adoption",
    "unitwork.bulk.plan",
    "unitwork.cli",
    "unitwork.dialects.mysql",
    "unitwork.dialects.postgresql",
    "unitwork.dialects.refusals",
    "unitwork.dialects.sqlite",
    "unitwork.events",
    "unitwork.integrations",
    "unitwork.models.keys",
    "unitwork.models.soft_delete",
    "unitwork.observe",
    "unitwork.schemas",
    "unitwork.snapshot",
    "unitwork.testing",
    "sqlalchemy.ext.hybrid",
)
OURS_OF_PROGRAMS_WITH_A_DATABASE = (
    "unitwork._runtime.access.repository_access",
    "unitwork._runtime.blocks.block",
    "unitwork._runtime.lanes",
    "unitwork._runtime.sessions",
    "unitwork._runtime.source",
    "unitwork._sqlalchemy.private",
    "unitwork.dialects",
    "unitwork.query.declared",
)


def loaded(what: str) -> set[str]:
    """The modules of a new interpreter that has imported this."""
    done = subprocess.run([sys.executable, "-c", LOADED.format(what=what)], capture_output=True, check=True)
    return set(done.stdout.decode().split())


@pytest.mark.parametrize("what", ["unitwork", "unitwork.errors", "unitwork.events"])
def test_import_needs_no_dialect_and_no_tool(what: str) -> None:
    """They are imported when a Database is opened, or by what needs them."""
    modules = loaded(what)

    assert "sqlalchemy.orm" in modules or what != "unitwork"
    assert modules.isdisjoint(OF_SOME_PROGRAMS)


def test_only_the_dialect_of_the_database_is_imported() -> None:
    """Models with every kind of column, and a Database, ask for no other dialect."""
    program = (
        "uuid; from unitwork import Base, Database, TimestampMixin; "
        "from sqlalchemy.orm import Mapped, mapped_column; from sqlalchemy import JSON, Enum\n"
        "class M(TimestampMixin, Base):\n"
        "    __tablename__ = 'm'\n"
        "    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)\n"
        "    kind: Mapped[str] = mapped_column(Enum('a', 'b'))\n"
        "    data: Mapped[dict[str, int]] = mapped_column(JSON)\n"
        "M(id=uuid.uuid4(), kind='a', data={}).dump_model(['id', 'kind', 'data'])\n"
        "Database('sqlite+aiosqlite:///:memory:').engine\n"
        "import sys"
    )

    modules = loaded(program)

    assert "sqlalchemy.dialects.sqlite" in modules
    assert modules.isdisjoint({"sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql"})


def test_import_loads_nothing_that_most_programs_do_not_use() -> None:
    """What checks, adopts, watches, writes many rows or needs one database is imported with its first use."""
    modules = loaded("unitwork")

    assert "unitwork.repository" in modules
    assert modules.isdisjoint(OURS_OF_SOME_PROGRAMS)


def test_what_sends_statements_is_imported_with_the_first_database() -> None:
    """A module of models, repositories and services needs none of it."""
    modules = loaded(
        "unitwork; from unitwork import Base, Database, Repository, query, repository, transactional\n"
        "from sqlalchemy.orm import Mapped, mapped_column\n"
        "class User(Base):\n"
        "    __tablename__ = 'users'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
        "class Users(Repository[User]):\n"
        "    async def first_of_all(self) -> User | None: return await self.first()\n"
        "@transactional\n"
        "async def served() -> None: ...\n"
        "import sys"
    )

    assert modules.isdisjoint(OURS_OF_PROGRAMS_WITH_A_DATABASE)


def test_requests_wait_for_no_import() -> None:
    """A Database has imported what blocks, units of work and repositories need when it is there."""
    program = """
import asyncio, sys
from unitwork import Base, Database, Repository, transactional
from sqlalchemy.orm import Mapped, mapped_column
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
@transactional
async def served():
    await Repository[User]().add(User(id=1))
async def main():
    db = Database("sqlite+aiosqlite://")
    await db.create_all(Base)
    before = set(sys.modules)
    await served()
    async with db.unit_of_work():
        db.session.add(User(id=2))
    users = Repository[User](db)
    print(await users.where(User.id > 0).count(), await users.get(1) is not None)
    await db.dispose()
    print(*(name for name in set(sys.modules) - before if name.startswith("unitwork")))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert done.stdout.split() == ["2", "True"]


def test_threads_may_import_at_the_same_time() -> None:
    """Each gets the whole of what it asks for, in whatever order they come."""
    program = """
import gc, sys, threading
sys.setswitchinterval(1e-6)
start, made = threading.Barrier(8), []
def work(number):
    start.wait()
    import unitwork
    names = unitwork.__all__ if number % 2 else reversed(unitwork.__all__)
    assert all(getattr(unitwork, name) is not None for name in names)
    made.append(unitwork.Database("sqlite+aiosqlite://", name=str(number)))
threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(len(made), gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert (done.stdout.strip(), done.stderr) == ("8 True", "")


def test_names_that_are_imported_later_are_offered() -> None:
    """They are listed, can be imported as any other, and the rest of the names is known."""
    program = (
        "unitwork; from unitwork import *; from unitwork.models import *; "
        "assert Ping is unitwork.Ping and set(unitwork.__all__) <= set(dir(unitwork)) "
        "and not hasattr(unitwork, 'nothing') and not hasattr(unitwork.models, 'nothing'); import sys"
    )

    assert "unitwork.snapshot" in loaded(program)


def test_what_is_imported_later_is_found_by_tools_that_freeze_programs(tmp_path: Path) -> None:
    """They read what is imported where, and run nothing."""
    program = tmp_path / "program.py"
    program.write_text("import unitwork")
    package = Path(unitwork.__file__).parent
    finder = ModuleFinder([str(package.parent)])
    finder.run_script(str(program))

    used = {"unitwork.bulk.insert", "unitwork.bulk.copied_entities", "unitwork.dialects.refusals"}
    ours = {name for name in OURS_OF_SOME_PROGRAMS if name.startswith("unitwork.")}
    asked_for = {
        f"unitwork.{name}" for name in ("cli", "integrations", "observe", "schemas", "testing")
    }  # by programs themselves
    assert (used | ours) - asked_for - set(finder.modules) == set()
