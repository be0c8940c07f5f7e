"""A batch builds a table of SQLite anew, and nothing is lost that the migration did not name."""

import sqlite3
import warnings
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.util import CommandError
from sqlalchemy.exc import IntegrityError

from unitwork import Database
from unitwork.integrations.alembic import Migrations

pytestmark = pytest.mark.only("sqlite", reason="it alone builds tables anew")

SHOP = """
CREATE TABLE maker (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE "Old Item" ( -- what is sold
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(50) COLLATE NOCASE DEFAULT ':x, y)' UNIQUE ON CONFLICT FAIL, -- as on the label
    price MONEY NOT NULL CHECK (price > 0),
    gross GENERATED ALWAYS AS (price * 1.2) STORED,
    maker_id INTEGER CONSTRAINT made_by REFERENCES maker ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    parent_id REFERENCES "Old Item" (id),
    note TEXT,
    code INTEGER UNIQUE,
    CHECK (length(note) < 99 OR name = 'a (long) one'),
    CONSTRAINT both UNIQUE (name, note)
);
CREATE INDEX cheap ON "Old Item" (price DESC, note COLLATE NOCASE) WHERE price < 10;
CREATE UNIQUE INDEX lowered ON "Old Item" (lower(name), maker_id);
CREATE TABLE log (
    said TEXT, item_id REFERENCES "Old Item" (id) ON DELETE CASCADE, code REFERENCES "Old Item" (code)
);
CREATE TRIGGER told AFTER UPDATE OF price ON "Old Item" WHEN new.price > old.price
    BEGIN INSERT INTO log VALUES ('up:' || new.name, new.id, NULL); END;
CREATE TRIGGER back AFTER DELETE ON log BEGIN UPDATE "Old Item" SET note = NULL WHERE id = old.item_id; END;
CREATE VIEW dear AS SELECT name, "note", price FROM "Old Item" WHERE price > 10;
CREATE TRIGGER put INSTEAD OF INSERT ON dear BEGIN INSERT INTO log VALUES (new.name, NULL, NULL); END;
CREATE VIEW dearest AS SELECT max(price) AS price FROM dear;
INSERT INTO maker VALUES (1, 'm');
INSERT INTO "Old Item" (name, price, maker_id) VALUES ('a', 5, 1), ('b', 20, 1), ('gone', 30, NULL);
DELETE FROM "Old Item" WHERE name = 'gone';
INSERT INTO log VALUES ('first', 1, NULL);
CREATE TABLE pair (a INTEGER, b TEXT, c TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID, STRICT;
CREATE INDEX c_of_pair ON pair (c);
INSERT INTO pair VALUES (1, 'x', 'y')
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database that has all that Alembic does not know of."""
    found = tmp_path / "shop.db"
    with closing(sqlite3.connect(found)) as connection:
        connection.executescript(SHOP)
    return found


def stored(file: Path) -> dict[str, str]:
    """The text of each table, index, view and trigger."""
    with closing(sqlite3.connect(file)) as connection:
        found = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
        return dict(connection.execute(found))


def asked(file: Path, statement: str) -> list[tuple[object, ...]]:
    """What a statement returns; it is committed."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        return connection.execute(statement).fetchall()


Upgrade = Callable[..., Awaitable[None]]


@pytest.fixture
def upgrade(file: Path, tmp_path: Path) -> Upgrade:
    """Run a migration with a batch on a table; each step is a call of the batch."""

    async def run(table: str, *steps: str, options: str = "", before: str = "pass") -> None:
        async with Database(f"sqlite+aiosqlite:///{file}") as db:
            migrations = Migrations(db, tmp_path / "migrations")
            if not migrations.directory.exists():
                migrations.init()
            body = "".join(f"        batch.{step}\n" for step in steps)
            (migrations.directory / "versions" / "one.py").write_text(
                "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = 'one', None\n"
                f"def upgrade():\n    {before}\n"
                f"    with op.batch_alter_table({table!r}{options}) as batch:\n{body or '        pass'}\n"
            )
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await migrations.upgrade()

    return run


async def test_all_that_a_batch_does_not_name_is_as_before(file: Path, upgrade: Upgrade) -> None:
    """Indexes, triggers, views and columns that do not change stay letter by letter, values and keys too."""
    before, rows = stored(file), asked(file, 'SELECT * FROM "Old Item" ORDER BY id')

    await upgrade(
        "Old Item",
        "alter_column('note', server_default='none', type_=sa.String(200))",
        "alter_column('name', type_=sa.String(60), nullable=False)",
        "drop_constraint('both', type_='unique')",
        "create_unique_constraint('noted', ['note', 'name'])",
        "create_index('makers', ['maker_id'])",
    )

    after = stored(file)
    table, index = after.pop("Old Item"), after.pop("makers")
    assert after == {name: sql for name, sql in before.items() if name != "Old Item"}
    assert index == 'CREATE INDEX makers ON "Old Item" (maker_id)'
    expected = before["Old Item"].replace("VARCHAR(50)", "VARCHAR(60)")
    expected = expected.replace("UNIQUE ON CONFLICT FAIL", "UNIQUE ON CONFLICT FAIL NOT NULL")
    expected = expected.replace("note TEXT", "note VARCHAR(200) DEFAULT 'none'")
    expected = expected.replace("both UNIQUE (name, note)", "noted UNIQUE (note, name)")
    assert " ".join(table.split()).replace(" ,", ",") == " ".join(expected.split())
    assert asked(file, 'SELECT * FROM "Old Item" ORDER BY id') == rows
    # They work, and a key that was given is not given again.
    asked(file, "INSERT INTO \"Old Item\" (name, price) VALUES ('c', 1)")
    asked(file, "UPDATE \"Old Item\" SET price = 50 WHERE name = 'C'")
    assert asked(file, "SELECT * FROM log WHERE said LIKE 'up%'") == [("up:c", 4, None)]
    assert asked(file, "SELECT name FROM dear ORDER BY 1") == [("b",), ("c",)]
    asked(file, "DELETE FROM maker")
    assert asked(file, 'SELECT id, gross FROM "Old Item"') == [(4, 60.0)]


async def test_form_of_a_table_stays(file: Path, upgrade: Upgrade) -> None:
    """WITHOUT ROWID and STRICT, and the order of columns that was asked for."""
    await upgrade(
        "pair", "add_column(sa.Column('d', sa.Integer), insert_after='a')", options=", recreate='always'"
    )

    assert " ".join(stored(file)["pair"].split()) == (
        'CREATE TABLE "pair" ( a INTEGER , d INTEGER , b TEXT , c TEXT , PRIMARY KEY (a, b) ) '
        "WITHOUT ROWID, STRICT"
    )
    assert asked(file, "SELECT * FROM pair") == [(1, None, "x", "y")]


async def test_new_names_of_columns_reach_all_that_speaks_of_them(file: Path, upgrade: Upgrade) -> None:
    """Views, triggers, checks, indexes, and the references of other tables; names may be exchanged."""
    await upgrade(
        "Old Item",
        "alter_column('note', new_column_name='maker_id')",
        "alter_column('maker_id', new_column_name='note')",
        "alter_column('id', new_column_name='key')",
    )

    after = stored(file)
    assert '"maker_id"' in after["dear"]
    assert 'SET "maker_id" = NULL WHERE "key" = old.item_id' in after["back"]
    assert 'length("maker_id") < 99' in after["Old Item"]
    assert '(lower(name), "note")' in after["lowered"]
    assert 'REFERENCES "Old Item" ("key") ON DELETE CASCADE' in after["log"]
    assert asked(file, 'SELECT key, note, maker_id FROM "Old Item"') == [(1, 1, None), (2, 1, None)]
    assert asked(file, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize(
    ("steps", "options", "said"),
    [
        (["drop_column('note')"], "", ["note", "index cheap", "length(note)", "CONSTRAINT both", "Fix: "]),
        (["drop_column('price')"], "", ["GENERATED ALWAYS AS (price * 1.2)", "index cheap", "Fix: "]),
        (
            ["drop_column('note')", "drop_constraint('both', type_='unique')", "drop_index('cheap')"],
            ", table_args=(sa.CheckConstraint('length(name) < 99'),)",
            # "note" in double quotes would be a text from then on.
            ["trigger back: no such column: note", "trigger put", "view dear: no such column: note", "Fix: "],
        ),
        (["alter_column('price', new_column_name='cost')"], "", ["view dearest", "Fix: "]),
        (["create_check_constraint('few', 'price < 9')"], "", ["CHECK constraint failed: few"]),
        (
            ["alter_column('note', server_default='x')"],
            ", table_args=(sa.UniqueConstraint('maker_id', sqlite_on_conflict='IGNORE'),)",
            ["Of the 2 rows", "only 1 fit", "Fix: "],
        ),
        (["drop_column('code')"], "", ["foreign key mismatch", '"log" referencing "Old Item"', "Fix: "]),
    ],
    ids=["shared column", "generated", "view and trigger", "view of a view", "values", "rows", "reference"],
)
async def test_batch_that_would_lose_something_changes_nothing(
    file: Path, upgrade: Upgrade, steps: list[str], options: str, said: list[str]
) -> None:
    """The error lists what would be lost, and says the fix; the database is as it was."""
    with closing(sqlite3.connect(file)) as connection:
        before = list(connection.iterdump())

    with pytest.raises((CommandError, IntegrityError)) as error:
        await upgrade("Old Item", *steps, options=options)

    assert all(part in str(error.value) for part in said), str(error.value)
    with closing(sqlite3.connect(file)) as connection:
        assert list(connection.iterdump()) == before


async def test_what_is_named_goes(file: Path, upgrade: Upgrade) -> None:
    """Columns with what is theirs alone; what is shared, when it is said, under a name or without one."""
    await upgrade(
        "Old Item",
        "drop_column('note')",
        "drop_constraint('both', type_='unique')",
        "drop_constraint('fk_parent_id', type_='foreignkey')",
        options=", naming_convention={'fk': 'fk_%(column_0_name)s'}"
        ", table_args=(sa.CheckConstraint('length(name) < 9'),)",
        before="[op.execute(f'DROP {each}') for each in "
        "('INDEX lowered', 'INDEX cheap', 'VIEW dearest', 'VIEW dear', 'TRIGGER back')]",
    )

    after = stored(file)
    assert after.keys() == {"maker", "Old Item", "log", "told", "pair", "c_of_pair", "sqlite_sequence"}
    assert "parent_id\n" in after["Old Item"]
    assert "CHECK (length(name) < 9)" in after["Old Item"]
    assert "note" not in after["Old Item"]
    assert "both" not in after["Old Item"]


async def test_values_outlive_a_change_of_type(file: Path, upgrade: Upgrade) -> None:
    """What fits the new type is converted; the rest stays as it is, where CAST would make 2020 of a date."""
    asked(file, "CREATE TABLE kept (day TEXT, number TEXT, size FLOAT, data TEXT)")
    asked(file, "INSERT INTO kept VALUES ('2020-01-01', '12', 1.5, 'a'), (NULL, 'twelve', 2.0, NULL)")

    await upgrade(
        "kept",
        "alter_column('day', type_=sa.Date)",
        "alter_column('number', type_=sa.Integer)",
        "alter_column('size', type_=sa.Integer)",
        "alter_column('data', type_=sa.LargeBinary)",
    )

    assert asked(file, "SELECT * FROM kept") == [("2020-01-01", 12, 1.5, b"a"), (None, "twelve", 2, None)]


async def test_view_and_virtual_table_are_no_tables_for_a_batch(file: Path, upgrade: Upgrade) -> None:
    """A table would stand in their place."""
    asked(file, "CREATE VIRTUAL TABLE found USING fts5(said)")

    with pytest.raises(CommandError, match=r"(?s)'dear' is no table .*Fix: "):
        await upgrade("dear", "drop_column('note')")
    with pytest.raises(CommandError, match=r"(?s)'found' is stored in a form .*Fix: "):
        await upgrade("found", "alter_column('said', nullable=False)")
