"""This package holds the one description of values: of Python classes, annotations and columns.

- `classes`: what each Python class of values means everywhere: bound, copied, in files, in cursors.
- `texts`: how single values are written and read: as text, JSON, COPY data.
- `annotations`: what an annotation says: its class, None, the element of a list.
- `columns`: what a mapped attribute holds; `values_of` is the question every floor asks.
- `files`: how the values of a column stand in CSV, JSON lines and Parquet.
- `ranges`: how the ranges of PostgreSQL are written and read.
- `answers`: how a value from the database becomes what an annotation says.
- `ordering`: in which form rows are walked in their order, and cursors keep values.
- `parameters`: what fits where, and an example of each.
"""

from unitwork._logic.values.answers import Converter, ValueTypeError, classes_as_promised, converter_for
from unitwork._logic.values.classes import SCALARS
from unitwork._logic.values.columns import ColumnValues, column_values, values_of
from unitwork._logic.values.texts import UnreadableValueError

__all__ = [
    "SCALARS",
    "ColumnValues",
    "Converter",
    "UnreadableValueError",
    "ValueTypeError",
    "classes_as_promised",
    "column_values",
    "converter_for",
    "values_of",
]
