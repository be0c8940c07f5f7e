"""This module notices that mappings change, of which what is prepared for them knows nothing."""

from sqlalchemy import event


class _Mappings:
    """The mapped classes of this process."""

    def __init__(self) -> None:
        self.changes = 0
        """How many attributes were mapped by now: of new classes, and of those that had been used before."""

    def changed(self, *_told: object) -> None:
        """Count an attribute."""
        self.changes += 1


MAPPINGS = _Mappings()
# A class that is imported late may add a relationship to another one (`backref`), of which a flush must know.
event.listen(object, "attribute_instrument", MAPPINGS.changed, propagate=True)
