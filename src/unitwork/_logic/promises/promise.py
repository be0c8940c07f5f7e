"""This module compares what a declared query promises with what its database tells of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from sqlalchemy.types import TypeDecorator, TypeEngine

from unitwork._logic.findings import Finding, Severity, counted
from unitwork._logic.nulls import promised_columns
from unitwork._logic.promises.parameters import (
    Sending,
    Told,
    of_literal,
    refused_by,
    unknown_labels,
    wanted_by,
)
from unitwork._logic.promises.results import Fit, Result, fit_of
from unitwork._logic.records import required_fields_of
from unitwork._logic.shape import Item, Shape
from unitwork._logic.values.annotations import (
    NOTHING,
    allows_none,
    element_of,
    plain,
    plain_type,
    refuses_none,
    without_none,
)
from unitwork._logic.values.columns import class_of_type, column_kind

# What a mapped type and the database's own must agree in; others are stored in several ways.
_STORED_ALIKE = frozenset({int, str, dt.datetime, dt.date})
_NUMBERS = frozenset({"int", "float", "Decimal"})


class Promise:
    """What one query promises. Lives: one check of it."""

    def __init__(
        self, name: str, shape: Shape, parameters: Mapping[str, Any], sending: Sending | None = None
    ) -> None:
        self._name = name
        self._shape = shape
        self._sending = sending or Sending()
        self._parameters = {each: plain(annotation) for each, annotation in parameters.items()}

    def wrong(self, problem: str, fix: str = "", severity: Severity = Severity.ERROR) -> Finding:
        """Return a finding about this query."""
        return Finding(self._name, severity, problem, fix)

    # -- parameters ----------------------------------------------------------------------------

    def parameter_findings(self, told: Iterable[tuple[str, Told]]) -> Iterator[Finding]:
        """Compare the annotations of parameters with what is known of them."""
        for name, known in told:
            if name in self._parameters:
                wrong = self._parameter_finding(name, self._parameters[name], known)
                if wrong is not None:
                    yield wrong

    def _parameter_finding(self, name: str, annotation: Any, told: Told) -> Finding | None:  # noqa: ANN401  # a type
        unknown = unknown_labels(annotation, told)
        if unknown:
            return self.wrong(
                f"the parameter {name!r} may be {min(unknown)!r}, which the database's enum does not have.",
                "use its values, or migrate the database.",
            )
        wanted = wanted_by(told, annotation, self._sending)
        if wanted is not None:
            cast = ", or cast it in the text" if {wanted, _name_of(annotation)} <= _NUMBERS else ""
            return self.wrong(
                f"the parameter {name!r} is {_name_of(annotation)}, but the database compares it with {wanted}.",  # noqa: E501  # one sentence
                f"annotate it as `{name}: {_listed(wanted, annotation)}`{cast}.",
            )
        other = refused_by(self._sending, annotation, told)
        if other is not None:
            return self.wrong(
                f"the parameter {name!r} is {_name_of(annotation)}, which the driver cannot send.",
                f"annotate it as `{name}: {_listed(other, annotation)}`, and convert the value before.",
            )
        if told.refuses_null and annotation is not Any and allows_none(annotation):
            return self.wrong(
                f"the parameter {name!r} may be None, but the column {told.refuses_null!r} cannot be NULL.",
                "take a value, without `| None`.",
                Severity.WARNING,
            )
        return None

    # -- columns -------------------------------------------------------------------------------

    def column_findings(self, results: Sequence[Result]) -> Iterator[Finding]:
        """Compare the columns of the rows with the promise."""
        shape, names = self._shape, [result.name for result in results]
        if shape.item is Item.SCALAR and len(results) > 1:
            yield self.wrong(
                f"it promises one value for each row, but selects {len(results)} columns.",
                f"select one of: {', '.join(names)}.",
            )
            return
        if shape.item is Item.RECORD:
            yield from self.missing(sorted(required_fields_of(shape.kind)), names)
        width = _width_of(shape)
        if width is not None and width != len(results):
            yield self.wrong(
                f"it promises tuples of {width}, but selects {counted(results, 'column', 'columns')}.",
                f"name each in the annotation, or select fewer; the columns are: {', '.join(names)}.",
            )
        converts = shape.item in (Item.SCALAR, Item.RECORD)
        for place, who, annotation in promised_columns(shape, names):
            yield from self._result_findings(results[place], annotation, who, converts=converts)

    def missing(self, wanted: Iterable[str], names: Sequence[str]) -> Iterator[Finding]:
        """Tell which of the columns that the promise needs are not there."""
        for name in wanted:
            if name not in names:
                yield self.wrong(
                    f"{self._shape.kind.__name__} needs the column {name!r}, which it does not select.",
                    f"select it, or promise another record; the columns are: {', '.join(names)}.",
                )

    def _result_findings(
        self,
        result: Result,
        annotation: Any,  # noqa: ANN401  # a type
        who: str,
        *,
        converts: bool,
    ) -> Iterator[Finding]:
        if annotation is None or annotation is Any:
            return
        refuses = refuses_none(annotation)
        annotation = plain(annotation)
        fit, name = fit_of(annotation, result, converts=converts), _name_of(annotation)
        if fit in (Fit.WRONG, Fit.LOSES, Fit.UNCONVERTED):
            yield self._misfit(result, name, who, fit)
        elif result.null_reason and refuses:
            yield self.wrong(
                f"{_but(who, name, result)} {result.null_reason}.",
                f"promise `{name} | None`, or exclude NULL in the text.",
                Severity.WARNING,
            )

    def _misfit(self, result: Result, name: str, who: str, fit: Fit) -> Finding:
        holds = "list" if result.holds is None else result.holds.__name__
        if fit is Fit.UNCONVERTED:
            given = "list" if result.given is None else result.given.__name__
            return self.wrong(
                f"{_but(who, name, result)} comes as {given}, and nothing here converts it.",
                f"annotate it as {given}; of `@query.sql`, a dataclass or NamedTuple converts its fields.",
                Severity.WARNING,
            )
        loses = ": what else it holds is lost" if fit is Fit.LOSES and name == "date" else ""
        return self.wrong(
            f"{_but(who, name, result)} holds {holds}{loses}.",
            f"annotate it as {holds}, or convert it with `CAST(... AS ...)`.",
            Severity.WARNING if fit is Fit.LOSES else Severity.ERROR,
        )

    def mapped_findings(
        self, mapped: Sequence[tuple[str, TypeEngine[Any]]], results: Sequence[Result], *, converts: bool
    ) -> Iterator[Finding]:
        """Compare the types of mapped columns with those that the database has, and with the promise."""
        if self._shape.item is Item.RECORD:
            yield from self.missing(
                sorted(required_fields_of(self._shape.kind)), [name for name, _ in mapped]
            )
        if len(mapped) == len(results):
            for (name, kind), result in zip(mapped, results, strict=True):
                ours = class_of_type(kind)
                alike = ours in _STORED_ALIKE and not isinstance(kind, TypeDecorator)
                fit = fit_of(ours, result, converts=True) if alike else Fit.RIGHT
                theirs = result.holds
                if ours is not None and theirs is not None and fit in (Fit.WRONG, Fit.LOSES):
                    yield self.wrong(
                        f"the column {name!r} is mapped as {ours.__name__}, but holds {theirs.__name__}.",
                        "change the model, or migrate the database.",
                    )
        if self._shape.item is Item.RECORD and not hasattr(self._shape.kind, "__pydantic_validator__"):
            names = [name for name, _ in mapped]
            for place, who, annotation in promised_columns(self._shape, names):
                kind = mapped[place][1]
                given = Result(names[place], kind, made=column_kind(kind))
                yield from self._result_findings(given, annotation, who, converts=converts)

    # -- what nobody knows ---------------------------------------------------------------------

    def unseen(self, told: Mapping[str, Told], results: Sequence[Result] | None) -> list[str]:
        """Return what nobody could compare with the promise."""
        found = [
            f"the type of the parameter {name!r}"
            for name, annotation in self._parameters.items()
            if name in told and told[name].type is None and plain_type(of_literal(annotation)) is not None
        ]
        if self._shape.item is Item.ENTITY:
            return found
        if results is None:
            return [*found, "the columns of its rows"]
        columns = [
            (results[place], plain(annotation))
            for place, _, annotation in promised_columns(self._shape, [result.name for result in results])
            if annotation is not None and plain_type(plain(annotation)) is not None
        ]
        names = [repr(result.name) for result, _ in columns if result.answered is None]
        found += [f"the type of {', '.join(names)}"] if names else []
        found += [
            f"whether each value of {result.name!r} is one of {_name_of(annotation)}"
            for result, annotation in columns
            if fit_of(annotation, result, converts=True) is Fit.BY_VALUE
        ]
        return found


def _width_of(shape: Shape) -> int | None:
    """Return how many values a tuple promises; None if it is no tuple, or does not say it."""
    annotation = without_none(shape.annotation)
    arguments = get_args(annotation)
    fixed = shape.item is Item.ROW and get_origin(annotation) is tuple and Ellipsis not in arguments
    return len(arguments) if fixed else None


def _but(who: str, name: str, result: Result) -> str:
    """Begin to say what a column is; `who` promises it to be something else."""
    if who.startswith("its column"):
        return f"{who} is promised as {name}, but it"
    return f"{who} is {name}, but the column {result.name!r}"


def _listed(wanted: str, annotation: Any) -> str:  # noqa: ANN401  # a type
    return f"list[{wanted}]" if element_of(annotation) is not NOTHING and "[" not in wanted else wanted


def _name_of(annotation: Any) -> str:  # noqa: ANN401  # a type
    if element_of(annotation) is not NOTHING:
        return str(annotation)
    return getattr(plain_type(annotation), "__name__", str(annotation))
