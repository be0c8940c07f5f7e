"""This module makes SQLAlchemy's text clauses of SQL text, whose parameters are those that databases see."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, TextClause, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from unitwork._logic.sql.lexer import Kind, Token, grammars_of
from unitwork._logic.sql.reading import SQLText

# What SQLAlchemy would take for a parameter, or for a colon that it has to uncover.
_COLON = re.compile(r"(?<![:\w\\]):(?=\w+(?![:\w]))|(?<=\\):(?=\w*(?![:\w]))")
_JOINED = re.compile(r"[:\w\\]")


class DialectText(TextClause):
    r"""Text that databases read differently: `'a\\'` is whole in PostgreSQL, but not in MariaDB."""

    inherit_cache = True
    __visit_name__ = "unitwork_dialect_text"
    _traverse_internals = [*TextClause._traverse_internals, ("spelled", InternalTraversal.dp_string)]  # noqa: SLF001, RUF012

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(next(iter(texts.values())))
        self.texts = texts
        self.spelled = "\0".join(texts.values())

    def for_dialect(self, name: str) -> TextClause:
        """Return the plain clause for one dialect."""
        (grammar, *_) = grammars_of(name)
        own = text(self.texts.get(grammar.name, self.text))
        kept: Any = self._bindparams
        return own.bindparams(*kept.values())


@compiles(DialectText)
def _compile(clause: DialectText, compiler: Any, **more: Any) -> str:  # noqa: ANN401  # any compiler
    done: str = compiler.visit_textclause(clause.for_dialect(compiler.dialect.name), **more)
    return done


def clause_of(readings: Sequence[SQLText]) -> TextClause:
    """Make a clause of what databases read, which must be the same parameters for all of them."""
    texts = {reading.grammar.name: escaped(reading.tokens) for reading in readings}
    return text(next(iter(texts.values()))) if len(set(texts.values())) == 1 else DialectText(texts)


def escaped(tokens: Sequence[Token]) -> str:
    """Return text in which SQLAlchemy finds the same parameters as the database's own reading."""
    parts: list[str] = []
    before = None
    for token in tokens:
        if before is not None and before.kind is Kind.BIND and token.text.startswith(":"):
            parts.append(" ")  # `:name::int`: SQLAlchemy finds no parameter before a colon
        parts.append(_escaped(token, before))
        before = token
    return "".join(parts)


def _escaped(token: Token, before: Token | None) -> str:
    if token.kind is Kind.BIND:
        return token.text
    if token.kind is Kind.SYMBOL:
        open_colon = token.text == ":" and (before is None or not _JOINED.match(before.text[-1]))
        return "\\:" if open_colon else token.text
    return _COLON.sub(r"\\:", token.text)


def plain_clause(clause: TextClause, dialect: str) -> TextClause:
    """Return a clause as one dialect reads it."""
    return clause.for_dialect(dialect) if isinstance(clause, DialectText) else clause


def binds_of(clause: TextClause) -> Mapping[str, BindParameter[Any]]:
    """Return the parameters of a clause by name."""
    return clause._bindparams  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
