"""Addresses and what drivers say are shown without secrets, and without telling what the secret is."""

import pytest
from sqlalchemy import make_url

from unitwork._logic.urls import shown, without_secrets


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+asyncpg://app:app@app/app", "postgresql+asyncpg://app:***@app/app"),
        ("postgresql+asyncpg://app:s%40x@db", "postgresql+asyncpg://app:***@db"),
        ("postgresql+psycopg://app@db/x?password=s&sslmode=require", "?password=***&sslmode=require"),
        ("postgresql+psycopg://db/x?sslpassword=s&passfile=f", "?passfile=f&sslpassword=***"),
        ("mysql+asyncmy://db/x?auth_token=a&auth_token=b&Api_Key=c", "?Api_Key=***&auth_token=***"),
        ("sqlite+aiosqlite:///shop.db", "sqlite+aiosqlite:///shop.db"),
    ],
)
def test_url_is_shown_without_its_secrets(url: str, expected: str) -> None:
    """By value: other parts stay, also where they are the same."""
    assert shown(make_url(url)).endswith(expected)


@pytest.mark.parametrize(
    ("url", "text", "expected"),
    [
        # As drivers and servers say it.
        (
            "postgresql://app:app@db/app",
            'password authentication failed for user "app"',
            'password authentication failed for user "app"',
        ),
        ("postgresql://app:password@db", "password authentication failed", "password authentication failed"),
        (
            "postgresql://app:postgres@db",
            'database "postgres" is not there',
            'database "postgres" is not there',
        ),
        ("postgresql://app:5432@db:5432", "db:5432 refused", "db:5432 refused"),
        # As a person who wrote it wrongly, or a driver that repeats it, might.
        ("postgresql://app:app@db/app", "at postgresql://app:app@db/app", "at postgresql://app:***@db/app"),
        ("postgresql://app:secret@db", "user=app password=secret host=db", "user=app password=*** host=db"),
        ("postgresql://app:secret@db", "{'password': 'secret'}", "{'password': '***'}"),
        ("postgresql://app:se%40cret@db", "bad value: se@cret, se%40cret", "bad value: ***, ***"),
        ("postgresql://app:a%20b%2F@db", "a b/ a%20b/ a%20b%2F a+b%2F", "*** *** *** ***"),
        ("postgresql://app:p%40@db", "postgresql://app:p@@db", "postgresql://app:***@db"),
        ("postgresql://app:s3cret@db", "s3crets and s3cret.", "s3crets and ***."),
        ("postgresql://db?sslpassword=s3cret&sslmode=s3", 'invalid: "s3cret" "s3"', 'invalid: "***" "s3"'),
        ("postgresql://db", "nothing to hide", "nothing to hide"),
    ],
)
def test_texts_lose_secrets_alone(url: str, text: str, expected: str) -> None:
    """What could mean something else stays, unless it stands as a password."""
    assert without_secrets(text, [make_url(url)]) == expected


def test_secrets_of_all_urls_are_hidden() -> None:
    """A Database may have several servers."""
    urls = [make_url("postgresql://app:f1rst@a"), make_url("postgresql://app:s3cond@b")]

    assert without_secrets("f1rst s3cond", urls) == "*** ***"
