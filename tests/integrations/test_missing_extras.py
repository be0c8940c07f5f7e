"""An integration without its library says which extra to install."""

import importlib
import sys

import pytest

from unitwork import MissingExtraError


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("aiogram", "aiogram"),
        ("dishka", "dishka"),
        ("fastapi", "fastapi"),
        ("faststream", "faststream"),
        ("grpc", "grpc"),
        ("litestar", "litestar"),
        ("pico_ioc", "pico"),
        ("strawberry", "strawberry"),
        ("opentelemetry", "otel"),
        ("taskiq", "taskiq"),
    ],
)
def test_missing_library_names_the_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import fails with one line that says what to type."""
    for module in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"unitwork.integrations.{name}", raising=False)

    with pytest.raises(MissingExtraError, match=rf"pip install 'unitwork\[{extra}\]'"):
        importlib.import_module(f"unitwork.integrations.{name}")


def test_middleware_needs_no_library() -> None:
    """The ASGI middleware works with every framework, so it imports none."""
    module = importlib.import_module("unitwork.integrations.asgi")

    assert not {"starlette", "fastapi", "litestar"} & set(vars(module))
