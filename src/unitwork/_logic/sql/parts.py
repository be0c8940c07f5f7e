"""This module makes of SQL text what may stand inside other text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from unitwork._logic.sql.lexer import Kind, Token
from unitwork._logic.sql.reading import SQLText, read

_WEAK = frozenset({"OR", "XOR", "||"})


def without_comments(way: SQLText) -> str:
    """Return text with a blank for each comment; hints to the database stay."""
    parts: list[str] = []
    for token in way.tokens:
        # In MariaDB `--/* */1` is two signs and a number, and `-- 1` a comment.
        joins = parts[-1:] == ["-"] and token.text.startswith("/*")
        parts.append(" " if token.kind is Kind.COMMENT and not joins else token.text)
    return "".join(parts)


def part_of(way: SQLText) -> str:
    """Return text that may stand inside other text: without comments and the last semicolon."""
    return without_comments(way).strip().rstrip("; \n\t")


def in_parentheses(way: SQLText) -> str:
    """Return a condition that means the same next to others: an OR inside binds less than an AND."""
    part = part_of(way)
    return f"({part})" if any(token.upper in _WEAK for token in way.tokens) else part


def without_parentheses(way: SQLText, lists: Collection[str]) -> SQLText:
    """Return text with `IN :names` for each `IN (:names)` whose parameter takes a list."""
    left_out: set[int] = set()
    for place in _in_lists(way.tokens):
        before, bind, after = place
        if way.tokens[bind].name in lists and before is not None and after is not None:
            left_out |= {before, after}
    if not left_out:
        return way
    parts = (" " if place in left_out else token.text for place, token in enumerate(way.tokens))
    return read("".join(parts), way.grammar)


def expanding_in(way: SQLText) -> frozenset[str]:
    """Return the names of the parameters that stand behind IN without parentheses."""
    return frozenset(way.tokens[bind].name for before, bind, _ in _in_lists(way.tokens) if before is None)


def with_lists(way: SQLText, names: Collection[str], written: Callable[[str, bool], str]) -> str:
    """Return text in which `written(name, negated)` stands for each `[NOT] IN :name` of these names."""
    tokens = [token.text for token in way.tokens]
    significant = [place for place, token in enumerate(way.tokens) if token.significant]
    for number, place in enumerate(significant):
        token = way.tokens[place]
        before = [way.tokens[each].upper for each in significant[max(number - 2, 0) : number]]
        if token.kind is not Kind.BIND or token.name not in names or before[-1:] != ["IN"]:
            continue
        negated = before[0] == "NOT"
        first = significant[number - 1 - negated]
        tokens[first : place + 1] = [written(token.name, negated), *[""] * (place - first)]
    return "".join(tokens)


def _in_lists(tokens: Sequence[Token]) -> Iterator[tuple[int | None, int, int | None]]:
    """Return the places of each parameter behind IN, and of the parentheses around it alone."""
    places = [place for place, token in enumerate(tokens) if token.significant]
    words = [tokens[place].upper for place in places]
    for number, place in enumerate(places):
        if tokens[place].kind is not Kind.BIND:
            continue
        if words[number - 1 : number] == ["IN"]:
            yield None, place, None
        elif words[max(number - 2, 0) : number] == ["IN", "("] and words[number + 1 : number + 2] == [")"]:
            yield places[number - 1], place, places[number + 1]
