"""What may be told of a statement: no value of it, a short name, and few of these."""

import pytest

from unitwork._logic.sql.summary import LONGEST_TEXT, summary_of

LONG = "INSERT INTO t VALUES " + "(1, 'it''s'), " * LONGEST_TEXT


@pytest.mark.parametrize(
    ("dialect", "sql", "line", "text"),
    [
        (
            "sqlite",
            "SELECT id FROM users -- bob's\n WHERE a = 'b' LIMIT 9",
            "SELECT users",
            "… WHERE a = ? LIMIT ?",
        ),
        (
            "sqlite",
            'SELECT 1 FROM t WHERE a = "b" AND "order" = 5.0',
            "SELECT t",
            '… WHERE a = ? AND "order" = ?',
        ),
        ("sqlite", 'SELECT 1 FROM t JOIN u ON t.a = "u"."b"', "SELECT t u", '… ON t.a = "u"."b"'),
        (
            "sqlite",
            'INSERT INTO t ("a") VALUES ("b", x\'00\'), ("c", 2)',
            "INSERT t",
            '… ("a") VALUES (?, ?), (?, ?)',
        ),
        ("sqlite", "SELECT 1 FROM t WHERE a = ?1 OR a = 'open", "SELECT t", "… WHERE a = ?1 OR a = ?"),
        (
            "sqlite",
            'SELECT "a" || b, f("c"), -"d" AS "e" FROM "t" WHERE b IS "f" OR b IS NOT DISTINCT FROM ("g")',
            "SELECT t",
            'SELECT ? || b, f(?), -? AS "e" FROM "t" WHERE b IS ? OR b IS NOT DISTINCT FROM (?)',
        ),
        (
            "sqlite",
            'UPDATE "t" SET "a"=?, "b"=5, c=upper("d") WHERE "t"."e" = ? AND (f, g) = (1, "h")',
            "UPDATE t",
            'UPDATE "t" SET "a"=?, "b"=?, c=upper(?) WHERE "t"."e" = ? AND (f, g) = (?, ?)',
        ),
        (
            "sqlite",
            'INSERT INTO "t" ("a", "b") SELECT 1, "c" FROM "main"."u"',
            "INSERT t main.u",
            'INSERT INTO "t" ("a", "b") SELECT ?, ? FROM "main"."u"',
        ),
        ("sqlite", "PRAGMA key = hush", "PRAGMA", "PRAGMA key = ?"),
        ("sqlite", "PRAGMA query_only=ON", "PRAGMA", "PRAGMA query_only=ON"),
        ("postgresql", "SET LOCAL app.tenant = acme, b", "SET", "SET LOCAL app.tenant = ?, ?"),
        ("postgresql", "SET app.tenant TO acme", "SET", "SET app.tenant TO ?"),
        ("mysql", "SET @a := hush, @b = `c`", "SET", "SET @a := ?, @b = ?"),
        ("postgresql", 'SET LOCAL ROLE "ann@shop"', "SET", "SET LOCAL ROLE ?"),
        ("postgresql", "SET ROLE NONE", "SET", "SET ROLE NONE"),
        ("postgresql", "SET SESSION AUTHORIZATION ann", "SET", "SET SESSION AUTHORIZATION ?"),
        ("postgresql", "SET TIME ZONE utc", "SET", "SET TIME ZONE ?"),
        ("mysql", "SET ROLE ann", "SET", "SET ROLE ?"),
        ("mysql", "SET PASSWORD FOR ann = PASSWORD('x')", "SET", "SET PASSWORD FOR ? = ?(?)"),
        (
            "sqlite",
            "WITH c AS (SELECT 1) SELECT * FROM c, t",
            "SELECT t",
            "… c AS (SELECT ?) SELECT * FROM c, t",
        ),
        ("postgresql", "SELECT 0b1010, 1_0, 0x1F, $1, .5 FROM t", "SELECT t", "… ?, ?, ?, $1, ? FROM t"),
        ("postgresql", "SELECT E'a' -- b\n  '\\'c' FROM t", "SELECT t", "SELECT ? FROM t"),
        ("postgresql", "SELECT E'a' -- b\n  '\\'c FROM t", "SELECT", "SELECT ?"),
        ("sqlite", "ROLLBACK TO SAVEPOINT a", "ROLLBACK TO", "ROLLBACK TO SAVEPOINT a"),
        ("sqlite", "CREATE TABLE t (a VARCHAR(80))", "CREATE TABLE", "… t (a VARCHAR(?))"),
        ("sqlite", "", "", ""),
        (
            "postgresql",
            "SELECT 1 FROM a JOIN s.b USING (id) WHERE x = $1::INT",
            "SELECT a s.b",
            "… WHERE x = $1::INT",
        ),
        (
            "mysql",
            "DELETE FROM t USING (a JOIN b USING (id))",
            "DELETE t a b",
            "… USING (a JOIN b USING (id))",
        ),
        (
            "postgresql",
            "UPDATE t SET a = $$it's$$, b = E'\\'', c = -5e3",
            "UPDATE t",
            "… a = ?, b = ?, c = -?",
        ),
        ("postgresql", "INSERT INTO t SELECT a FROM u RETURNING id", "INSERT t u", "… a FROM u RETURNING id"),
        ("postgresql", "EXPLAIN SELECT 1 FROM t", "EXPLAIN t", "EXPLAIN SELECT ? FROM t"),
        (
            "mysql",
            'SET STATEMENT max_statement_time=3 FOR SELECT "v" FROM t # c',
            "SELECT t",
            "SELECT ? FROM t",
        ),
        ("mysql", "CALL shop.settle(5, %s)", "CALL shop.settle", "CALL shop.settle(?, %s)"),
        ("mariadb", "SELECT /*+ no */ `a` FROM t WHERE b = 'it\\'s'", "SELECT t", "… `a` FROM t WHERE b = ?"),
        (None, "SELECT 'x' FROM t", "SELECT t", "SELECT ? FROM t"),
        (None, 'SELECT "x" FROM t', "SELECT t", None),
        ("mysql", LONG, "INSERT t", "… ..."),
        ("sqlite", ")) 'a' ((", "", ")) ? (("),
    ],
)
def test_statement_is_told_without_values(dialect: str | None, sql: str, line: str, text: str | None) -> None:
    """Literals are `?`, comments are left out; text of which that is not known for sure is not told."""
    told = summary_of(sql, dialect)

    assert told.line == line
    if text is None or told.text is None:
        assert told.text is text
    else:
        assert told.text.endswith(text.removeprefix("…"))
        assert len(told.text) <= LONGEST_TEXT + 10


def test_line_is_short() -> None:
    """A name is shown as a whole or not at all."""
    tables = ", ".join(f"table_{number}" for number in range(100))

    line = summary_of(f"SELECT 1 FROM {tables}", "sqlite").line

    assert len(line) <= 255
    assert line.split() == ["SELECT", *(f"table_{number}" for number in range(len(line.split()) - 1))]
