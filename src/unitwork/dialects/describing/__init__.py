"""This package asks databases what they make of a statement, without running it."""

from unitwork.dialects.describing.catalog import Catalog, StoredColumn
from unitwork.dialects.describing.question import Answer, Describer, Question, RefusedError, question_of
from unitwork.dialects.describing.servers import describer_for

__all__ = [
    "Answer",
    "Catalog",
    "Describer",
    "Question",
    "RefusedError",
    "StoredColumn",
    "describer_for",
    "question_of",
]
