"""This module shows addresses of databases, and texts about them, without what is secret in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from sqlalchemy import URL

HIDDEN = "***"

_SECRET_ARGUMENT = re.compile(
    r"password|passwd|passphrase|secret|token|credential|(api|access|account|private)_?key", re.IGNORECASE
)
_MARK = "unitwork-hides-this"
"""What stands in the place of a secret until the URL is text: stars would be escaped."""
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]*|[A-Z]+")
_CALLED_SO = r"((?i:pass(?:word|wd|phrase)?|pwd|secret|token)[\"']?\s*[:=]\s*[\"']?)"


def shown(url: URL) -> str:
    """Return a URL as text; its password, and arguments that are called as secrets are, are hidden."""
    arguments = {name: _MARK if _SECRET_ARGUMENT.search(name) else value for name, value in url.query.items()}
    return url.set(query=arguments).render_as_string(hide_password=True).replace(_MARK, HIDDEN)


def without_secrets(text: str, urls: Iterable[URL]) -> str:
    """Return a text of a driver or a server without the secrets of these URLs.

    One that could as well mean something else, because it is a plain word, or a part of the URL that is
    no secret, is hidden only where it stands as a password: hiding it everywhere would tell it.
    """
    for url in urls:
        public = set(_public_parts(url))
        for value in _secrets(url):
            is_ambiguous = any(value in part for part in public) or _WORD.fullmatch(value) is not None
            # The longest first: an escaped form may contain another one.
            for form in sorted(_forms(value), key=len, reverse=True):
                text = _without_ambiguous(text, form) if is_ambiguous else _without(text, form)
    return text


def _without(text: str, form: str) -> str:
    before = r"(?<!\w)" if form[0].isalnum() else ""
    after = r"(?!\w)" if form[-1].isalnum() else ""
    return re.sub(f"{before}{re.escape(form)}{after}", HIDDEN, text)


def _without_ambiguous(text: str, form: str) -> str:
    in_urls = re.sub(f"(?<=:){re.escape(form)}(?=@)", HIDDEN, text)
    return re.sub(rf"{_CALLED_SO}{re.escape(form)}(?!\w)", rf"\1{HIDDEN}", in_urls)


def _forms(value: str) -> set[str]:
    return {value, quote(value), quote(value, safe=""), quote_plus(value)}


def _secrets(url: URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for name, value in _arguments(url):
        if value and _SECRET_ARGUMENT.search(name):
            yield value


def _public_parts(url: URL) -> Iterator[str]:
    yield from re.split(r"\W+", url.drivername)
    yield from (str(part) for part in (url.username, url.host, url.port, url.database) if part is not None)
    for name, value in _arguments(url):
        yield name
        if not _SECRET_ARGUMENT.search(name):
            yield value


def _arguments(url: URL) -> Iterator[tuple[str, str]]:
    for name, values in url.query.items():
        for value in [values] if isinstance(values, str) else values:
            yield name, value
