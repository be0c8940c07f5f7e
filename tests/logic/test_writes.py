"""Which statements write, as far as can be told without a database."""

import pytest
from sqlalchemy import delete, func, insert, literal_column, select, text, update
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.base import Executable

from tests.fixtures.models import Account, Audit
from unitwork._logic.writes import is_write, text_writes

RENAMED = update(Account).values(balance=0).returning(Account.id).cte("changed")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO audit (note) VALUES ('x')",
        "insert into audit (note) values ('x')",
        "  \n UPDATE account SET balance = 1",
        "DELETE FROM account",
        "REPLACE INTO account VALUES (1)",
        "MERGE INTO account USING audit ON 1=1 WHEN MATCHED THEN DELETE",
        "TRUNCATE audit",
        "CREATE TABLE t (id INT)",
        "DROP TABLE audit",
        "ALTER TABLE audit ADD COLUMN more INT",
        "/* SELECT */ INSERT INTO audit (note) VALUES ('x')",
        "-- SELECT 1\nDELETE FROM audit",
        "WITH gone AS (DELETE FROM audit RETURNING id) SELECT * FROM gone",
        "WITH RECURSIVE x AS (SELECT 1) INSERT INTO audit (note) SELECT 'x' FROM x",
        "CALL change_things()",
        "COPY audit FROM STDIN",
        "COPY (DELETE FROM audit RETURNING id) TO STDOUT",
        "GRANT ALL ON audit TO PUBLIC",
        "VACUUM",
    ],
)
def test_text_that_writes_is_a_write(sql: str) -> None:
    """Text is judged by its verb, also behind comments and WITH."""
    assert text_writes(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select * from audit where note = 'INSERT INTO audit'",
        "(SELECT 1) UNION (SELECT 2)",
        "/* DELETE */ SELECT 1",
        "-- UPDATE\nSELECT 1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "WITH x AS (SELECT 'DELETE FROM y' AS v) SELECT * FROM x",
        "WITH x AS (SELECT replace(note, 'a', 'b') AS v FROM audit) SELECT * FROM x",
        "VALUES (1)",
        "COPY (SELECT 1) TO STDOUT (FORMAT csv)",
        "EXPLAIN SELECT 1",
        "SHOW transaction_read_only",
        "PRAGMA query_only",
        "",
    ],
)
def test_text_that_reads_is_no_write(sql: str) -> None:
    """Words inside strings and comments do not make a write."""
    assert not text_writes(sql)


@pytest.mark.parametrize(
    "statement",
    [
        insert(Audit).values(note="x"),
        update(Account).values(balance=1),
        delete(Account),
        insert(Audit).values(note="x").returning(Audit.id),
        text("DELETE FROM audit"),
        CreateTable(Audit.metadata.tables["audit"]),
        select(literal_column("id")).select_from(RENAMED),
        select(Account).from_statement(text("UPDATE account SET balance = 1 RETURNING *")),
        select(Account).from_statement(update(Account).values(balance=1).returning(Account)),
        select(literal_column("1")).add_cte(RENAMED),
    ],
)
def test_statement_that_writes_is_a_write(statement: Executable) -> None:
    """INSERT, UPDATE, DELETE and DDL write, wherever they hide in a statement."""
    assert is_write(statement)


@pytest.mark.parametrize(
    "statement",
    [
        select(Account),
        select(func.count()).select_from(Account),
        select(Account).with_for_update(),
        select(Account).where(Account.name == "DELETE FROM account"),
        select(Account.id).union(select(Audit.id)),
        select(Account).from_statement(text("SELECT * FROM account")),
        text("SELECT 1"),
    ],
)
def test_statement_that_reads_is_no_write(statement: Executable) -> None:
    """A SELECT reads, whatever its values are."""
    assert not is_write(statement)
