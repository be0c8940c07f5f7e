"""Every error is explained, survives pickling, and is complete in its first line."""

import inspect
import pickle
import re
from pathlib import Path

import pytest

from unitwork import errors

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
FIRST_LINE_LIMIT = 120

ERRORS = [
    value
    for name, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, BaseException) and value.__module__ == errors.__name__ and not name.startswith("_")
]
# How each kind of parameter may look, by the words of its annotation.
SAMPLES: list[tuple[str, object]] = [
    ("Sequence[Exception]", (ValueError("broken"),)),
    ("Sequence[Sequence[str]]", (("id",), ("tenant", "email"))),
    ("Sequence[str]", ("first", "second")),
    ("Iterable[str]", ("first", "second")),
    ("tuple[str, ...]", ("first", "second")),
    ("str", "shop.users.Users.by_email"),
    ("float", 1.5),
    ("int", 3),
    ("bool", True),
    ("object", "wrong"),
]


def sample(error: type[BaseException]) -> BaseException:
    """An instance with a plausible value for each parameter."""
    if error.__init__ is Exception.__init__:
        return error("something is wrong.")
    parameters = list(inspect.signature(error.__init__).parameters.values())[1:]
    return error(*(_value(str(parameter.annotation)) for parameter in parameters))


def _value(annotation: str) -> object:
    words = annotation.removeprefix("<class '").removesuffix("'>")
    return next(value for name, value in SAMPLES if words.startswith(name))


def test_errors_are_found() -> None:
    """The module has errors, and lists all of them."""
    assert {error.__name__ for error in ERRORS} == set(errors.__all__)


@pytest.mark.parametrize("error", ERRORS)
def test_error_is_one_of_ours(error: type[BaseException]) -> None:
    """One `except UnitworkError` catches them all."""
    assert issubclass(error, errors.UnitworkError)


@pytest.mark.parametrize("error", ERRORS)
def test_error_survives_pickling(error: type[BaseException]) -> None:
    """Text and data are the same in another process."""
    original = sample(error)

    copy = pickle.loads(pickle.dumps(original))

    assert type(copy) is error
    assert str(copy) == str(original)
    assert repr(vars(copy)) == repr(vars(original))


@pytest.mark.parametrize("error", ERRORS)
def test_error_is_complete_in_its_first_line(error: type[BaseException]) -> None:
    """Line 1 is one short sentence; what follows is indented."""
    first, *rest = str(sample(error)).splitlines()

    assert len(first) <= FIRST_LINE_LIMIT
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize("error", ERRORS)
def test_error_has_a_section_in_the_reference(error: type[BaseException]) -> None:
    """docs/reference/errors.md has a heading for each class."""
    headings = re.findall(r"^#+ `?(\w+)`?", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)

    assert error.__name__ in headings
