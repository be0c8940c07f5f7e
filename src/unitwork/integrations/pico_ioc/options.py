"""This module reads the options of a transaction, also under the names that pico applications know."""

from __future__ import annotations

from typing import cast

from unitwork.errors import OptionError
from unitwork.options import Isolation, IsolationName, TransactionKeywords, TransactionOptions


class ComponentKeywords(TransactionKeywords, total=False):
    """The keywords of a transaction in a container."""

    isolation_level: Isolation | IsolationName | None


def options_of(keywords: ComponentKeywords) -> TransactionOptions:
    """Check and convert the keywords that a person wrote.

    Raises:
        OptionError: A name is unknown, or the isolation is said twice.
    """
    plain = dict(keywords)
    level = plain.pop("isolation_level", None)
    if level is not None:
        if plain.get("isolation") is not None:
            raise OptionError("isolation_level", level, ["`isolation` or `isolation_level`, not both"])
        plain["isolation"] = level
    return TransactionOptions.of(**cast("TransactionKeywords", plain))
