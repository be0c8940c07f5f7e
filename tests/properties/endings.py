"""This module of the model ends blocks: the last work, the commit or the rollback, and what comes after."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from tests.properties.programs import (
    RULES,
    Block,
    Blow,
)
from tests.properties.world import (
    ENDED,
    RAISED,
    Cancelled,
    Frame,
    Function,
    Model,
    Place,
    Run,
    Scope,
    Told,
    Unspecified,
)
from unitwork import Propagation, RowCountError

if TYPE_CHECKING:
    from tests.properties.model import Promises

P = Propagation


class Endings:
    """How blocks end, and what runs then. Lives: as long as the model of one run."""

    def __init__(self, model: Promises) -> None:
        self.model = model

    def leave(
        self, place: Place, block: Block, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """End a block; return its status, and what it raises."""
        was_late = scope.late
        _, blow = self.model.operation(place)
        frame = scope.frame
        if frame is None:
            raise Unspecified
        undo = error is not None and self.rolls_back(error, block)
        if was_late:
            error, undo = Cancelled(), True
        how: Told
        if frame.ended:
            how, error = ("*",), error or Model(*ENDED)
            self.forget(place, scope)
        elif not scope.owns:
            self.forget(place, scope)
            how, error = self.leave_joined(frame, error, undo=undo, blow=blow)
        elif frame.plain:
            self.forget(place, scope)
            how, error = ("ended without a transaction",), self.leave_plain(frame, error, blow)
        else:
            how, error = yield from self.end(place, scope, error, undo=undo, blow=blow)
        if scope.late and isinstance(error, Cancelled):
            error = Model("TransactionTimeoutError")
        return how, error

    def leave_plain(
        self, frame: Frame, error: BaseException | None, blow: Blow | None
    ) -> BaseException | None:
        """End a block without a transaction: there is nothing to end."""
        frame.ended = True
        if blow is not None and blow.interrupts:
            return Cancelled()
        if error is None and frame.shares is not None and frame.shares.ended and self.model.choose(2):
            return Model("TransactionEndedError")
        if error is None and self.model.reaches_the_caller(blow):
            return Model("Struck*")
        return error

    def forget(self, place: Place, scope: Scope) -> None:
        """A block is left."""
        if scope.frame is None:
            raise Unspecified
        place.drop(scope.frame.on, scope)
        if scope in scope.frame.root.scopes:
            scope.frame.root.scopes.remove(scope)

    def leave_joined(
        self, frame: Frame, error: BaseException | None, *, undo: bool, blow: Blow | None
    ) -> tuple[Told, BaseException | None]:
        """End a block that has joined: the frame is condemned, or nothing happens."""
        if blow is not None and blow.interrupts:
            error, undo = Cancelled(), True
        elif error is None and self.model.reaches_the_caller(blow):
            error, undo = Model("Struck*"), True
        if frame.plain:
            return ("ended without a transaction",), error
        if undo and not isinstance(error, RowCountError):
            frame.condemned = True
            return ("failed: what it joined must be undone",), error
        return ("left to the outer transaction",), error

    def end(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool, blow: Blow | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """End a frame: the last work, the commit or the rollback, and what comes after."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        if frame.root.holder is not None and not scope.late:
            raise Unspecified  # it waits for that operation
        if blow is not None and blow.interrupts:
            return (yield from self.end_struck(place, scope, error, undo=undo))
        if blow is Blow.BEFORE_COMMIT and not undo:
            yield from self.last_work(place, frame)
            error, undo = Model("Struck*"), True
            how, error = yield from self.settle(place, scope, error, undo=True)
            return how, error
        if blow is Blow.AFTER_COMMIT and frame.parent is not None and not undo and self.model.choose(2):
            return (yield from self.settle(place, scope, Model("Struck*"), undo=True))
        untouched = not (frame.sent or frame.writes or frame.root is not frame or scope.late)
        how, after = yield from self.settle(place, scope, error, undo=undo)
        if untouched:  # nothing was sent
            how = (*how, "committed" if how == ("rolled back",) else "rolled back")
        if after is None and self.model.reaches_the_caller(blow):
            after = Model("Struck*", "AfterCommitError", "ExceptionGroup")
        return how, after

    def end_struck(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """A cancellation at the end of a block: before the commit, after it, or nobody knows."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        kind = self.model.choose(2 if undo or frame.parent is not None else 6)
        if kind == 0:  # before the commit
            how, _ = yield from self.settle(place, scope, Cancelled(), undo=True)
            return how, Cancelled()
        if kind == 1:  # after it: a limit that could not stop the commit is not told
            blow = self.model.struck.blow if self.model.struck is not None else None
            if blow is Blow.CANCEL_ALL and self.model.choose(2):
                frame.on_commit = []  # the task that runs them is cancelled, too
            how, after = yield from self.settle(place, scope, error, undo=undo)
            committed = how == ("committed",) and scope.late
            return how, after if committed else Cancelled()
        frame.on_commit, frame.on_rollback = [], []
        yield from self.settle(place, scope, error, undo=kind in (3, 5))
        return ("outcome unknown",), Cancelled() if kind in (2, 3) else Model("CommitOutcomeUnknownError")

    def settle(
        self, place: Place, scope: Scope, error: BaseException | None, *, undo: bool
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Roll back or commit as the marks say; return the status and what is raised."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        inside = [each for each in frame.open_inside() if each is not scope]
        # Those in a savepoint that has ended have no part in this any more.
        others = [each for each in inside if each.frame is None or not each.frame.ended]
        marked = frame.condemned or bool(others)
        if not (undo or marked or frame.rollback_only):
            failure = yield from self.last_work(place, frame)
            if failure is not None:
                error, undo = failure, True
            marked = frame.condemned or bool(others)
        if undo or marked or frame.rollback_only:
            if not undo and marked and not frame.rollback_only and not self.is_of_database(frame, error):
                error = Model("UnexpectedRollbackError")
            return (yield from self.undo(place, scope, error))
        return (yield from self.keep(place, scope, error))

    def is_of_database(self, frame: Frame, error: BaseException | None) -> bool:
        """An error of the database is never replaced, and an exception never promises a commit: both hold."""
        return error is not None and frame.refuses and bool(self.model.choose(2))

    def last_work(self, place: Place, frame: Frame) -> Generator[None, None, BaseException | None]:
        """What is done inside before the commit; what it raises rolls back."""
        if frame.parent is None:
            while frame.before_commit:
                function = frame.before_commit.pop(0)
                try:
                    yield from self.call(place, function)
                except RAISED as error:
                    return error
        return frame.late_error

    def keep(
        self, place: Place, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Commit, or hand up."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        self.close(place, scope)
        if frame.parent is not None:
            frame.parent.writes += frame.writes
            frame.parent.on_commit += frame.on_commit
            frame.parent.on_rollback += frame.on_rollback
            frame.parent.before_commit += frame.before_commit
            return ("savepoint kept",), error
        hooks = frame.on_commit or frame.on_rollback
        if hooks and frame.read_only and frame.unit is not None and frame.unit.atomic:
            raise Unspecified  # they wait for the end of the unit, which may begin or not
        self.model.stored[frame.on] += frame.writes
        failed, stopped = yield from self.call_all(place, frame, frame.on_commit)
        if stopped is not None:
            error = stopped
        elif failed and error is None:
            error = Model("AfterCommitError")
        return ("committed",), error

    def undo(
        self, place: Place, scope: Scope, error: BaseException | None
    ) -> Generator[None, None, tuple[Told, BaseException | None]]:
        """Roll back; the functions that waited for it run now."""
        frame = scope.frame
        if frame is None:
            raise Unspecified
        inside = [function for each in frame.savepoints_inside() for function in each.on_rollback]
        self.close(place, scope)
        here = frame.on_rollback if frame.parent is not None else []
        if any(function.hook.body for function in (*here, *inside)):
            raise Unspecified
        failed, stopped = yield from self.call_all(place, frame, frame.on_rollback + inside)
        if stopped is not None:
            error = stopped
        elif failed and error is None:
            error = Model("ExceptionGroup")
        return (("undone to savepoint",) if frame.parent else ("rolled back",)), error

    def close(self, place: Place, scope: Scope) -> None:
        """The frame of a block has ended, with all that is in it."""
        if scope.frame is None:
            raise Unspecified
        self.forget(place, scope)
        scope.frame.end()
        if scope.frame.unit is not None and scope.frame.unit.block is scope.frame:
            scope.frame.unit.block = None

    def rolls_back(self, error: BaseException, block: Block) -> bool:
        """Of all rules that name the class or a base, the nearest decides; ties roll back."""
        undo, keep = RULES[block.rules]
        if isinstance(error, Model) and len(keep) and keep[0].__name__ == "DBAPIError":
            return not {"DBAPIError", "IntegrityError"} & set(error.names)
        if not isinstance(error, Exception):
            return True
        for ancestor in type(error).__mro__:
            if ancestor in undo:
                return True
            if ancestor in keep:
                return False
        return True

    def call(self, place: Place, function: Function) -> Run:
        """Run a function. It is part of no attempt of those around."""
        self.model.tell(function.label)
        if function.hook.fails:
            raise ValueError(function.label)
        around, place.attempts = place.attempts, ()
        try:
            yield from self.model.body(place, function.hook.body)
        finally:
            place.attempts = around

    def call_all(
        self, place: Place, frame: Frame, functions: list[Function]
    ) -> Generator[None, None, tuple[bool, BaseException | None]]:
        """Run all, in order, whatever one of them does, where no transaction is current."""
        failed, stopped = False, None
        outside = Scope(outside=True, unit=frame.unit)
        place.push(frame.on, outside)
        inside, place.in_hook = place.in_hook, True
        for function in functions:
            try:
                yield from self.call(place, function)
            except Exception:  # noqa: BLE001  # counted
                failed = True
            except RAISED as error:
                stopped = error
        place.in_hook = inside
        place.drop(frame.on, outside)
        if self.model.deferred and not place.in_hook:
            self.model.deferred, stopped = False, Cancelled()
        return failed, stopped
