"""Which statements write, as far as can be told without a database."""

import pytest
from sqlalchemy import delete, func, insert, literal_column, select, text, update
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.base import Executable

from tests.fixtures.models import Account, Audit
from unitwork._logic.sql.reading import openings
from unitwork._logic.sql.statement import Step
from unitwork._logic.writes import changes_settings, is_write, runs_others, steps_of, text_writes

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


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("EXPLAIN ANALYZE DELETE FROM audit", "postgresql"),
        ("EXPLAIN (VERBOSE, ANALYZE) INSERT INTO audit (note) VALUES ('x')", "postgresql"),
        ("ANALYZE FORMAT=JSON UPDATE audit SET note = 'x'", "mysql"),
        ("SET STATEMENT max_statement_time=1 FOR DELETE FROM audit", "mysql"),
        ("SELECT * INTO copied FROM audit", "postgresql"),
        ("SELECT note FROM audit INTO OUTFILE '/tmp/x'", "mysql"),
        ("SELECT 1 /*!50000 INTO OUTFILE 'x' */", "mysql"),
        ("/*!50000 DELETE FROM audit */", "mysql"),
        ("SELECT 'it\\'s'; DELETE FROM audit; -- '", "mysql"),
        ("SELECT 1 # it's\n; DELETE FROM audit", "mysql"),
        ("SELECT $$it's$$; DELETE FROM audit", "postgresql"),
        ("/* a /* b */ */ DELETE FROM audit", "postgresql"),
        ("SELECT 1; DELETE FROM audit", None),
        ("DO $$ BEGIN DELETE FROM audit; END $$", "postgresql"),
        ("PRAGMA user_version = 5", "sqlite"),
        ("PRAGMA main.user_version(5)", "sqlite"),
        ("PRAGMA query_only = OFF", "sqlite"),
        ("SET TRANSACTION READ WRITE", "postgresql"),
        ("SET transaction_read_only = off", "postgresql"),
        ("EXECUTE IMMEDIATE 'DELETE FROM audit'", "mysql"),
        ("WITH replace AS (SELECT 1) DELETE FROM audit", None),
        ("COPY audit TO PROGRAM 'cat'", "postgresql"),
        ("EXECUTE prepared", "postgresql"),
        ("NOTIFY audit_changed", "postgresql"),
    ],
)
def test_text_of_a_dialect_that_writes_is_a_write(sql: str, dialect: str | None) -> None:
    """Each dialect's own ways to write are known, and its own quotes hide nothing."""
    assert text_writes(sql, dialect)


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("EXPLAIN DELETE FROM audit", "postgresql"),
        ("EXPLAIN (ANALYZE false) DELETE FROM audit", "postgresql"),
        ("EXPLAIN ANALYZE SELECT 1", "postgresql"),
        ("EXPLAIN QUERY PLAN DELETE FROM audit", "sqlite"),
        ("WITH x AS (SELECT id FROM audit) SELECT id FROM x FOR UPDATE", None),
        ("SELECT id FROM audit FOR NO KEY UPDATE SKIP LOCKED", "postgresql"),
        ("WITH delete AS (SELECT 1) SELECT * FROM delete", "postgresql"),
        ('SELECT "INSERT" FROM "DELETE"', "postgresql"),
        ("SELECT `update` FROM `replace`", "mysql"),
        ("SELECT 'a\\'; DELETE FROM audit'", "mysql"),
        ("SELECT $a$; DELETE FROM audit $a$", "postgresql"),
        ("SELECT 1; -- DELETE\n", None),
        ("SELECT note INTO @note FROM audit", "mysql"),
        ("SELECT extract(year FROM now())", "postgresql"),
        ("PRAGMA table_info(audit)", "sqlite"),
        ("PRAGMA main.integrity_check(5)", "sqlite"),
        ("SET STATEMENT max_statement_time=1 FOR SELECT 1", "mysql"),
        ("SET LOCAL statement_timeout = 5", "postgresql"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "postgresql"),
        ("DECLARE c CURSOR FOR SELECT 1", "postgresql"),
        ("(WITH x AS (SELECT 1) SELECT * FROM x) UNION (SELECT 2)", "postgresql"),
        ("SHOW CREATE TABLE audit", "mysql"),
        ("DESCRIBE audit", "mysql"),
    ],
)
def test_text_of_a_dialect_that_reads_is_no_write(sql: str, dialect: str | None) -> None:
    """What only looks like a write, in quotes, comments or names, is a read."""
    assert not text_writes(sql, dialect)


@pytest.mark.parametrize(
    ("sql", "steps"),
    [
        ("COMMIT", (Step.COMMIT,)),
        (" commit ;", (Step.COMMIT,)),
        ("/* now */ END", (Step.COMMIT,)),
        ("INSERT INTO audit (note) VALUES (';'); COMMIT", (Step.COMMIT,)),
        ("ROLLBACK", (Step.ROLLBACK,)),
        ("ROLLBACK TO SAVEPOINT a", (Step.ROLLBACK_TO,)),
        ("rollback transaction to a", (Step.ROLLBACK_TO,)),
        ("BEGIN IMMEDIATE", (Step.BEGIN,)),
        ("START TRANSACTION READ ONLY", (Step.BEGIN,)),
        ("SAVEPOINT a", (Step.SAVEPOINT,)),
        ("RELEASE SAVEPOINT a", (Step.RELEASE,)),
        ("PREPARE TRANSACTION 'a'", (Step.COMMIT,)),
        ("SET TRANSACTION READ ONLY", (Step.SETTINGS,)),
        ("PRAGMA query_only = 1", (Step.SETTINGS,)),
        ("SELECT 'COMMIT'", ()),
        ("-- COMMIT\nSELECT 1", ()),
        ("CREATE TRIGGER a AFTER INSERT ON b BEGIN DELETE FROM c; END", ()),
        ("CREATE PROCEDURE a() BEGIN IF 1 THEN SELECT 1; END IF; SELECT CASE WHEN 1 THEN 2 END; END", ()),
        ("BEGIN NOT ATOMIC SELECT 1; END", ()),
        ("PREPARE p AS SELECT 1", ()),
    ],
)
def test_text_that_controls_a_transaction_is_known(sql: str, steps: tuple[Step, ...]) -> None:
    """COMMIT and its kin are found wherever they stand, and nowhere else."""
    assert steps_of(sql) == steps


def test_text_with_many_rows_is_judged_by_its_first_words() -> None:
    """What a statement with many thousand values does to the transaction is told without reading them."""
    rows = "INSERT INTO audit (note) VALUES " + ", ".join(["('x')"] * 1_000)

    (opening,) = openings(rows, "mysql")

    assert not opening.steps
    assert not opening.commits_by_itself
    assert len(opening.tokens) < 50


@pytest.mark.parametrize(
    ("sql", "runs"),
    [
        ("CALL p()", True),
        ("/* now */ call p()", True),
        ("EXECUTE prepared", True),
        ("EXECUTE IMMEDIATE @text", True),
        ("EXECUTE IMMEDIATE 'CALL p()'", True),
        ("EXECUTE IMMEDIATE 'SELECT 1'", False),
        ("SET STATEMENT max_statement_time = 1 FOR CALL p()", True),
        ("SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1)", False),
        ("BEGIN NOT ATOMIC COMMIT; END", True),
        ("INSERT INTO t VALUES (1); CALL p()", True),
        ("INSERT INTO t VALUES (';')", False),
        ("WITH x AS (SELECT 1) SELECT * FROM x", False),
        ("SET @a = 1", False),
        ("SAVEPOINT one", False),
        ("LOAD DATA INFILE 'x' INTO TABLE t", False),
    ],
)
def test_text_that_runs_statements_from_elsewhere_is_known(sql: str, runs: bool) -> None:  # noqa: FBT001
    """What they do is known to the server alone."""
    assert runs_others(sql, "mysql") is runs
    assert not runs_others(sql, "postgresql")


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("SET autocommit = 0", True),
        ("/* next */ set transaction read only", True),
        ("SELECT 1; SET @a = 1", True),
        ("SET STATEMENT max_statement_time=1 FOR SELECT 1", False),
        ("UPDATE account SET name = 'SET'", False),
        ("SELECT ';SET @a = 1'", False),
        ("SHOW TABLES", False),
    ],
)
def test_text_that_changes_settings(sql: str, *, changes: bool) -> None:
    """For the session, or for its next transaction; not for one statement alone."""
    assert changes_settings(sql, "mysql") is changes
