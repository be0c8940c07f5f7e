"""This package shows in a browser what transactions do now: see `Panel`."""

from unitwork.observe.panel.application import Panel

__all__ = ["Panel"]
