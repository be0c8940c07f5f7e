"""This module opens the transaction blocks of commands, under names that a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork.options import TransactionKeywords, TransactionOptions
from unitwork.transaction import TransactionBlock

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from unitwork.database import Database


def block(database: Database, name: str, **options: Unpack[TransactionKeywords]) -> TransactionBlock:
    """Open a block as `database.transaction` does; errors call it by this name, not by a line of our code."""
    return TransactionBlock(database.source, TransactionOptions.of(**options), name)
