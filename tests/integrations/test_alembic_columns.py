"""A column that a migration changes keeps what is not named."""

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.fixtures.observer import Observer
from unitwork import Database
from unitwork.integrations.alembic import Migrations


async def change(db: Database, folder: Path, *steps: str) -> None:
    """Run a migration that changes column `c` of table `kept`."""
    migrations = Migrations(db, folder)
    migrations.init()
    body = "".join(f"    op.alter_column('kept', {step})\n" for step in steps)
    (folder / "versions" / "one.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = 'one', None\n"
        f"def upgrade():\n{body}"
    )
    await migrations.upgrade()


@pytest.mark.only("postgresql", reason="it forgets the collation with a new type")
async def test_text_keeps_its_collation(db: Database, observer: Observer, tmp_path: Path) -> None:
    """Unless another one is asked for; types that are no text have none."""
    await observer.run(
        'CREATE TABLE kept (c VARCHAR(20) COLLATE "C", d VARCHAR(20) COLLATE "C", e VARCHAR(20) COLLATE "C")'
    )

    await change(
        db,
        tmp_path / "migrations",
        "'c', type_=sa.String(40)",
        "'d', type_=sa.String(40, collation='POSIX')",
        "'e', type_=sa.Integer, postgresql_using='1'",
    )

    found = await observer.scalar(
        "SELECT string_agg(coalesce(collation_name, data_type), ' ' ORDER BY column_name) "
        "FROM information_schema.columns WHERE table_name = 'kept'"
    )
    assert found == "C POSIX integer"
    await observer.run("DROP TABLE kept")


WRITTEN = r"""
CREATE TABLE kept (
    c varchar(20) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT 'a%b\:c' COMMENT 'it''s 5%'
        CHECK (c <> 'z'),
    d varchar(20) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT NULL COMMENT 'is''nt' CHECK (d <> 'z'),
    u timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
    n int(10) unsigned INVISIBLE DEFAULT 3 COMMENT 'number'
)
"""


@pytest.mark.only("mariadb", reason="its MODIFY says a column anew")
async def test_column_keeps_all_that_is_not_named(db: Database, observer: Observer, tmp_path: Path) -> None:
    """Character set, collation, default, ON UPDATE, comment, condition; a condition learns the new name."""
    await observer.run(WRITTEN)

    await change(
        db,
        tmp_path / "migrations",
        "'c', type_=sa.String(40), existing_type=sa.String(20)",
        "'c', nullable=False, existing_type=sa.String(40)",
        "'d', new_column_name='e', existing_type=sa.String(20)",
        "'e', comment='100% new', nullable=False, existing_type=sa.String(20)",
        "'u', nullable=True, existing_type=sa.TIMESTAMP()",
        "'n', server_default='4', nullable=False, existing_type=sa.Integer()",
    )

    async with db.engine.connect() as connection:
        created = str((await connection.execute(text("SHOW CREATE TABLE kept"))).one()[1])
    latin = "CHARACTER SET latin1 COLLATE latin1_bin"
    assert [line.strip(" ,") for line in created.splitlines()[1:-1]] == [
        f"`c` varchar(40) {latin} NOT NULL DEFAULT 'a%b:c' COMMENT 'it''s 5%' CHECK (`c` <> 'z')",
        f"`e` varchar(20) {latin} NOT NULL COMMENT '100% new' CHECK (`e` <> 'z')",
        "`u` timestamp NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()",
        "`n` int(10) unsigned NOT NULL INVISIBLE DEFAULT 4 COMMENT 'number'",
    ]
    await observer.run("DROP TABLE kept")
