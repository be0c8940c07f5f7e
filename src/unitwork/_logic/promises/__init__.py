"""This package compares what a declared query promises with what its database tells of it.

- `parameters`: whether the values of a parameter fit what they meet, and the driver that sends them.
- `results`: whether the columns of rows fit what is promised of each.
- `promise`: both of one query, as findings.
"""

from unitwork._logic.promises.parameters import Sending, Told
from unitwork._logic.promises.promise import Promise
from unitwork._logic.promises.results import Result

__all__ = ["Promise", "Result", "Sending", "Told"]
