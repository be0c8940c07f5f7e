"""Where a database is, said by parts, by a URL, by variables, or by Pydantic settings."""

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from unitwork import Database, DatabaseSettings, OptionError

SECRET = "p@ss/w:rd"


class ShopSettings(BaseSettings):
    """The settings of a program, of which one is where its database is."""

    model_config = SettingsConfigDict(
        env_prefix="SHOP_", env_nested_delimiter="__", nested_model_default_partial_update=True
    )

    database: DatabaseSettings = DatabaseSettings(dsn="postgresql+asyncpg://app@localhost/shop")


def shown(url: URL) -> str:
    """A URL with its password."""
    return url.render_as_string(hide_password=False)


async def test_database_at_its_parts_answers(database_url: URL) -> None:
    """They are those of the URL, on every database."""
    settings = DatabaseSettings(
        **{
            name: getattr(database_url, name)
            for name in ("drivername", "username", "password", "host", "port", "database")
        },
        query=dict(database_url.query),
    )

    async with Database(settings, name="parts") as db:
        assert (await db.ping()).latency_ms > 0
    assert settings.url() == database_url


async def test_database_of_the_environment_answers(
    monkeypatch: pytest.MonkeyPatch, database_url: URL
) -> None:
    """One variable is enough."""
    monkeypatch.setenv("DATABASE_URL", shown(database_url))

    async with Database(DatabaseSettings.from_environment(), name="environment") as db:
        assert (await db.ping()).latency_ms > 0


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"DB_URL": "sqlite+aiosqlite:///shop.db", "DB_DSN": ""}, "sqlite+aiosqlite:///shop.db"),
        ({"DB_DSN": "postgresql+asyncpg://app@db/shop"}, "postgresql+asyncpg://app@db/shop"),
        (
            {
                "DB_URL": "postgres://app:old@db/shop",
                "DB_DRIVERNAME": "postgresql+psycopg",
                "DB_PASSWORD": "p@",
            },
            "postgresql+psycopg://app:p%40@db/shop",
        ),
        (
            {"DB_DRIVERNAME": "mysql+asyncmy", "DB_HOST": "db", "DB_PORT": "3307", "DB_DATABASE": "shop"},
            "mysql+asyncmy://db:3307/shop",
        ),
        (
            {"DB_URL": "mysql+asyncmy://db/x?a=1&b=2", "DB_QUERY": "b=3&c=%20"},
            "mysql+asyncmy://db/x?a=1&b=3&c=+",
        ),
    ],
)
def test_variables_say_a_url(variables: dict[str, str], url: str) -> None:
    """Parts replace those of the URL; what is empty is not said."""
    settings = DatabaseSettings.from_environment("DB_", variables)

    assert shown(settings.url()) == url


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, r"DB_URL does not take None.*its parts: DB_DRIVERNAME, DB_USERNAME"),
        ({"DB_HOST": "db"}, "DB_URL does not take None"),
        ({"DB_URL": "sqlite://", "DB_DSN": "mysql://"}, "one of DB_URL and DB_DSN"),
        ({"DB_URL": "sqlite://", "DB_PORT": "x"}, "DB_PORT does not take 'x'"),
        ({"DB_URL": "sqlite://", "DB_QUERY": '{"secret": 1}'}, "query does not take 'text of another form'"),
    ],
)
def test_variables_that_say_nothing_useful_are_named(variables: dict[str, str], message: str) -> None:
    """The error names the variable."""
    with pytest.raises(OptionError, match=f"(?s){message}"):
        DatabaseSettings.from_environment("DB_", variables)


def test_secrets_are_not_shown() -> None:
    """Not by a repr, nor by an error."""
    settings = DatabaseSettings(
        drivername="postgresql+asyncpg", password=SECRET, query="sslpassword=secret", dsn="x://a:p@ss@b"
    )

    assert not {"p@ss", "secret"} & set(repr(settings).replace("=", " ").replace("'", " ").split())
    with pytest.raises(ArgumentError) as caught:
        DatabaseSettings(dsn="postgresql://app:sec/ret@db:port/shop").url()
    assert not any(part in str(caught.value) for part in ("sec", "ret"))


def test_pydantic_settings_read_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no variable says is as in the default."""
    monkeypatch.setenv("SHOP_DATABASE__PASSWORD", SECRET)
    monkeypatch.setenv("SHOP_DATABASE__PORT", "77")

    settings = ShopSettings()

    assert shown(settings.database.url()) == "postgresql+asyncpg://app:p%40ss%2Fw%3Ard@localhost:77/shop"
    assert "p@ss" not in repr(settings)


def test_pydantic_models_check_it() -> None:
    """A field of a model is made of a mapping or of JSON; that a driver is missing is said."""

    class Config(BaseModel):
        database: DatabaseSettings

    made = Config.model_validate_json('{"database": {"dsn": "sqlite+aiosqlite:///shop.db"}}')

    assert shown(made.database.url()) == "sqlite+aiosqlite:///shop.db"
    with pytest.raises(ValidationError, match="or a `dsn`"):
        Config.model_validate({"database": {"host": "db"}})


def test_url_of_no_driver_says_what_to_write() -> None:
    """Such as `postgres://`, which hosts give out."""
    with pytest.raises(NoSuchModuleError) as caught:
        Database("postgres://app@db/shop", name="host")

    assert "Fix: name an async driver" in caught.value.__notes__[0]
