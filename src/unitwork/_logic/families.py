"""This module hands on what `values` knows of parameters and results."""

from unitwork._logic.values.annotations import plain_type
from unitwork._logic.values.parameters import fits_parameter, fits_result, sample

__all__ = ["fits_parameter", "fits_result", "plain_type", "sample"]
