"""Texts of random pieces, read by the lexer and by the databases themselves."""

import random
import re

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from unitwork import Database
from unitwork._logic.sql.lexer import Kind, grammars_of
from unitwork._logic.sql.parts import without_comments
from unitwork._logic.sql.reading import SQLText, read

TEXTS = 600
_NASTY = [
    "'",
    "''",
    '"',
    '""',
    "`",
    "\\",
    "\\'",
    "$",
    "$$",
    "$a$",
    "#",
    "--",
    "-- ",
    "/*",
    "*/",
    "\n",
    " ",
    ":p",
    "x",
    ";",
]
_INNER = ["'", '"', "`", "\\", "--", "/*", "*/", "$$", "#", ":p", "x", " "]


def _soup(dice: random.Random, pieces: list[str], most: int) -> str:
    return "".join(dice.choice(pieces) for _ in range(dice.randint(0, most)))


def _value(dice: random.Random) -> str:
    """Return a value that at least one database may read as one, in its own quotes."""
    inner = _soup(dice, _INNER, 6)
    plain = inner.replace("'", "''")
    ways = [
        f"'{plain}'",
        f"E'{plain}'",
        f"'{inner}'",
        f"$q${inner}$q$",
        "'a' -- b'\n 'c'",
        "'a'\n'b\\'",
        "E'a'\n'b\\''",
        f"/* {inner} */ 1",
        f"/* a /* {inner} */ b */ 2",
        f"3 -- {inner.replace(chr(10), '')}\n",
        f"4 # {inner}\n",
        f'"{inner}"',
        "5 /*! + 1 */",
        "2*/* two */3",
        "x'41'",
        _soup(dice, _NASTY, 5),
    ]
    return dice.choice(ways)


def _answer(connection: Connection, sql: str) -> tuple[object, ...] | None:
    """Return the row that a text answers with; None if the database refuses it."""
    try:
        found = connection.exec_driver_sql(sql, execution_options={"no_parameters": True}).one()
    except DBAPIError:
        return None
    except Exception:  # noqa: BLE001  # a driver that gives up by itself, as on a text without a statement
        return None
    return tuple(found)


def _with_other_strings(text: SQLText) -> tuple[str, int]:
    """Return the text with another value for each string, and how many there are."""
    parts = ["'other'" if token.kind is Kind.STRING else token.text for token in text.tokens]
    return "".join(parts), sum(token.kind is Kind.STRING for token in text.tokens)


@pytest.mark.timeout(120)
async def test_lexer_reads_text_as_the_database_does(db: Database) -> None:
    """What a database accepts is whole to the lexer, and means the same without what it calls comments."""
    dice = random.Random(20261130)  # noqa: S311  # repeatable
    (grammar,) = grammars_of(db.engine.dialect.name)
    accepted = strings = 0
    async with db.engine.connect() as opened:
        connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
        for _ in range(TEXTS):
            sql = f"SELECT {', '.join(_value(dice) for _ in range(dice.randint(1, 2)))}, 7 AS last"
            answer = await connection.run_sync(_answer, sql)
            text = read(sql, grammar)
            assert "".join(token.text for token in text.tokens) == sql
            if answer is None or ";" in re.sub(r"'[^']*'", "", sql):
                continue
            accepted += 1
            assert text.is_whole, sql
            bare = await connection.run_sync(_answer, without_comments(text))
            assert bare == answer, (sql, without_comments(text))
            other, count = _with_other_strings(text)
            changed = await connection.run_sync(_answer, other)
            strings += count
            assert changed is not None, (sql, other)
            assert len(changed) == len(answer), (sql, other)
            assert not answer or not isinstance(answer[-1], int) or changed[-1] == answer[-1], (sql, other)

    assert accepted > TEXTS / 10
    assert strings > TEXTS / 20
