"""This module reads what a declared query promises from the function that declares it."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unitwork._logic.values.annotations import allows_none
from unitwork.errors import OptionError, QueryDeclarationError


class QuerySignature(NamedTuple):
    """Name, parameters and return annotation of a declared query. Lives: as long as the query."""

    name: str
    parameters: Mapping[str, Any]
    returns: Any
    bind: Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]

    def wrong(self, problem: str, fix: str) -> QueryDeclarationError:
        """Build the error for a declaration that cannot work."""
        return QueryDeclarationError(self.name, problem, fix)

    def needs_values(self, name: str) -> None:
        """Refuse a parameter that may be None where only values can stand, as behind IN.

        Raises:
            QueryDeclarationError: Its annotation says `| None`.
        """
        annotation = self.parameters[name]
        if annotation is not Any and allows_none(annotation):
            raise self.wrong(
                f"the parameter {name!r} may be None, but a condition on several values cannot",
                "take a list: an empty one finds nothing; for no condition at all declare another query.",
            )


def values_in(name: str, value: Any) -> list[Any]:  # noqa: ANN401  # what a caller gives
    """Return the values that a caller gives for a list.

    Raises:
        OptionError: None is given.
    """
    if value is None:
        raise OptionError(name, value, ["a list of values; an empty one finds nothing"])
    return list(value)


def signature_of(
    function: Callable[..., Any], name: str, known: Mapping[str, Any], *, returns_needed: bool = True
) -> QuerySignature:
    """Read a function; `known` are names that its annotations may use besides its module's.

    Raises:
        QueryDeclarationError: An annotation cannot be resolved or is missing, or there is no `self`.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    hints = _hints(function, name, known)
    if returns_needed and "return" not in hints:
        raise QueryDeclarationError(
            name, "it has no return annotation", "say what it returns, for example `-> list[Model]`."
        )
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise QueryDeclarationError(
                name, f"it takes *{parameter.name}", "name each parameter; take a list for many values."
            )
    return QuerySignature(
        name=name,
        parameters={parameter.name: hints.get(parameter.name, Any) for parameter in parameters},
        returns=hints.get("return"),
        bind=_binder(signature, name),
    )


def _hints(function: Callable[..., Any], name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    module = sys.modules.get(function.__module__)
    names = {**(vars(module) if module is not None else {}), **getattr(function, "__globals__", {})}
    try:
        return typing.get_type_hints(function, names, dict(known))
    except NameError as error:
        raise QueryDeclarationError(
            name,
            f"its annotations name {error.name!r}, which is not defined here",
            "import it outside of `if TYPE_CHECKING:`, or define it before the repository.",
        ) from error


def _binder(
    signature: inspect.Signature, name: str
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """Return a function that gives each parameter its value, as calling the query would."""
    parameters = list(signature.parameters.values())[1:]
    simple = all(
        parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
        for parameter in parameters
    )
    names = [parameter.name for parameter in parameters]
    whole = signature.replace(parameters=parameters)

    def bind(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
        if simple and not keywords and len(arguments) == len(names):
            return dict(zip(names, arguments, strict=True))
        try:
            bound = whole.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"{name}() got wrong arguments: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    return bind
