"""This module tells failures to a person: in one message, without secrets, without a traceback."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

import click
from sqlalchemy import URL
from sqlalchemy.engine import create
from sqlalchemy.exc import SQLAlchemyError

from unitwork._logic.urls import shown, without_secrets
from unitwork.errors import UnitworkError, lines

_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")
_INSTEAD = {"sslmode": "write `ssl=require` instead, which is the driver's word"}


def failure(error: Exception, urls: Sequence[URL]) -> click.ClickException | None:
    """Return what a person is told; None if it is the traceback that helps.

    That is so when neither the database, nor the network, nor a rule of unitwork has failed, but a program.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return click.ClickException(lines(f"{error.filename}: {error.strerror}."))
    if not _is_told(error):
        return None
    told = without_secrets(_told(error, urls), urls)
    return click.ClickException(lines(told, f"Database: {shown(urls[0])}" if urls else ""))


def _is_told(error: Exception) -> bool:
    return isinstance(error, SQLAlchemyError | UnitworkError | OSError) or _while_connecting(error)


def _while_connecting(error: Exception) -> bool:
    """Say whether a driver has failed, with whatever error: a strange argument is a TypeError."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == create.__file__ for frame, _line in frames)


def _told(error: Exception, urls: Sequence[URL]) -> str:
    if isinstance(error, UnitworkError):
        return str(error)
    unknown = _UNKNOWN_ARGUMENT.search(str(error))
    if unknown is not None and urls and unknown[1] in urls[0].query:
        name = unknown[1]
        return lines(
            f"{urls[0].get_driver_name()} takes no argument {name!r}, which the URL has.",
            f"Fix: {_INSTEAD.get(name, 'leave it out')}.",
        )
    text = str(error) or type(error).__name__
    return lines(f"{type(error).__name__}: {text}", *getattr(error, "__notes__", ()))
