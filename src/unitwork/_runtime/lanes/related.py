"""This module loads what belongs to entities, with statements that ask for it by their keys."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value
from sqlalchemy.util import warn

from unitwork._logic.effects import NOTHING
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.calls import StatementCall
from unitwork._runtime.lanes.sending import parameters_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence

    from sqlalchemy.orm import InstanceState, Mapper, Session

    from unitwork._logic.effects import Effects
    from unitwork._runtime.lanes.loading import EntityLoader
    from unitwork._runtime.lanes.reads import CompiledRead
    from unitwork.dialects.direct import Column, Direct, Rows

KEYS = "primary_keys"
"""What the only parameter is called."""
_KEYS_AT_ONCE = 500
"""As `selectinload` asks for them."""
_NOT_LOADED = LaneRefusal("what belongs to its entities cannot be loaded")


class Place:
    """Where entities of one class stand in a statement. Lives: as long as the compiled statement.

    Args:
        loader: Makes them of rows.
        mapper: Their class.
        path: What SQLAlchemy calls the place.
        options: The loader options that entities remember, for what is loaded later.
    """

    repeats = False
    """The rows repeat entities, for what is joined; each counts once."""

    def __init__(
        self, loader: EntityLoader, mapper: Mapper[Any], path: object, options: tuple[Any, ...]
    ) -> None:
        self.loader = loader
        self.mapper = mapper
        self.path = path
        self.options = options
        self.members: list[Relation | Joined] = []
        """What is loaded with the entities, in the order of SQLAlchemy."""
        self.later: list[Later] = []
        """What is not, by options."""

    @property
    def relations(self) -> list[Relation]:
        """Those of them that are loaded by statements of their own."""
        return [each for each in self.members if isinstance(each, Relation)]

    @property
    def joined(self) -> list[Joined]:
        """Those of them that stand in the same rows."""
        return [each for each in self.members if isinstance(each, Joined)]

    def mappers(self) -> Iterable[Mapper[Any]]:
        """Return the classes of all that is loaded, of the entities and of what belongs to them."""
        yield self.mapper
        for member in self.members:
            yield from member.place.mappers()

    def with_relations(self) -> list[Place]:
        """Return the places in the same rows whose entities load more by statements, in their order."""
        found: list[Place] = []
        for member in self.members:
            if isinstance(member, Joined):
                found += member.place.with_relations()
            elif self not in found:
                found.append(self)
        return found


class Later:
    """A relationship that an option leaves to be loaded later, or forbids. Lives: as its place does."""

    def __init__(self, key: str, setters: Sequence[Callable[..., object]]) -> None:
        self.key = key
        self._setters = setters

    def put(self, entities: Iterable[Any]) -> None:
        """Let entities that do not hold it know."""
        for entity in entities:
            if entity is not None and self.key not in instance_dict(entity):
                for each in self._setters:
                    each(_state(entity), instance_dict(entity), None)


class Joined:
    """A relationship whose entities stand in the same rows, as `joinedload` has joined them."""

    def __init__(self, key: str, place: Place, full_name: str, *, many: bool) -> None:
        self.key = key
        self.place = place
        self.many = many
        self._full_name = full_name

    def put(self, entities: Sequence[Any], related: Sequence[Any], *, apart: bool) -> None:
        """Give entities what stands in their rows; apart from a session all of them are new."""
        if self.many:
            self._put_many(entities, related)
            return
        key = self.key
        given: set[int] = set()
        for entity, each in zip(entities, related, strict=True):
            if entity is None:
                continue
            held = instance_dict(entity)
            if key not in held:
                given.add(id(entity))
                if apart:
                    held[key] = each
                else:
                    set_committed_value(entity, key, each)
            elif held[key] is not each and id(entity) in given:
                _warn_of_several(self._full_name)

    def _put_many(self, entities: Sequence[Any], related: Sequence[Any]) -> None:
        # By identity: what is mapped may compare by values, and have no hash.
        found: dict[int, tuple[Any, dict[int, Any]]] = {}
        for entity, each in zip(entities, related, strict=True):
            if entity is not None:
                found.setdefault(id(entity), (entity, {}))[1][id(each)] = each
        for entity, several in found.values():
            if self.key not in instance_dict(entity):  # what it holds already stays
                several.pop(id(None), None)
                set_committed_value(entity, self.key, list(several.values()))


class Relation:
    """A relationship of the entities of one place. Lives: as long as that.

    Args:
        key: What the attribute is called.
        statement: As SQLAlchemy knows it.
        read: The same, compiled; its only parameter are the keys.
        place: Where the related entities stand in it.
    """

    many = True
    """It holds a collection."""
    own: tuple[str, ...] | None = None
    """The attributes that hold the key of the only related entity; None if that holds the key of this one."""
    full_name = ""
    single = True
    """A key is one value, no tuple."""
    once = False
    """Of equal rows one counts."""

    def __init__(self, key: str, statement: Any, read: CompiledRead, place: Place) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self.key = key
        self.statement = statement
        self.read = read
        self.place = place
        self.key_of_row: Callable[[Sequence[Any]], Any] = tuple

    def batches(self, entities: Sequence[Any]) -> list[dict[Any, list[Any]]]:
        """Return the entities by the keys that are asked for, as many as one statement takes at a time.

        Those that refer to nothing get nothing. A key of one column is its value, of several a tuple.
        """
        if self.own is None:
            by_key = {self._key_in(_state(entity).key[1]): [entity] for entity in entities}
        else:
            by_key = self._referring(entities, self.own)
        items = list(by_key.items())
        starts = range(0, len(items), _KEYS_AT_ONCE)
        return [dict(items[start : start + _KEYS_AT_ONCE]) for start in starts]

    def _referring(self, entities: Sequence[Any], names: tuple[str, ...]) -> dict[Any, list[Any]]:
        by_key: dict[Any, list[Any]] = {}
        for entity in entities:
            held = _state(entity).dict
            key = tuple([held[name] for name in names])
            if None in key:
                self._put(entity, ())
            else:
                by_key.setdefault(self._key_in(key), []).append(entity)
        return by_key

    def _key_in(self, values: tuple[Any, ...]) -> Any:  # noqa: ANN401  # of any type
        return values[0] if self.single else values

    def put(self, by_key: dict[Any, list[Any]], rows: Sequence[Any], related: Sequence[Any]) -> None:
        """Give entities what belongs to them, of the related ones of these rows."""
        found: dict[Any, list[Any]] = defaultdict(list)
        pairs: Iterable[tuple[Any, Any]] = zip(map(self.key_of_row, rows), related, strict=True)
        if self.once:
            pairs = {(key, id(each)): (key, each) for key, each in pairs}.values()
        for key, each in pairs:
            found[key].append(each)
        for key, entities in by_key.items():
            for entity in entities:
                self._put(entity, found.get(key, ()))

    def _put(self, entity: Any, related: Sequence[Any]) -> None:  # noqa: ANN401  # of any class
        if self.key in _state(entity).dict:
            return  # what it holds already stays
        if self.many:
            set_committed_value(entity, self.key, related)
            return
        if self.own is None and len(related) > 1:
            _warn_of_several(self.full_name)
        # Of several rows with one key SQLAlchemy takes the last, of several that refer to one the first.
        place = 0 if self.own is None else -1
        set_committed_value(entity, self.key, related[place] if related else None)


class RelatedLoad:
    """What one call of a read loads: the entities of its rows, and all that comes with them.

    Args:
        place: Where the entities stand.
        decoded: Makes of rows of the driver those of SQLAlchemy.
        name: Of the read, for people.
    """

    session: Session | None = None
    """What holds the entities."""
    entities: Sequence[Any] | LaneRefusal = ()
    """Those of the rows; or why they cannot be loaded here."""

    def __init__(self, place: Place, decoded: Callable[[Rows], Rows], name: str) -> None:
        self._place = place
        self._decoded = decoded
        self._name = name
        self._steps: Generator[Any, Rows, None] | None = None

    def begin(self, rows: Rows | LaneRefusal) -> RelatedCall | None:
        """Load the entities of rows, and return what is to be sent for what belongs to them, if anything."""
        self._steps = self._load()
        next(self._steps)
        return self.go_on(rows)

    def go_on(self, rows: Rows | LaneRefusal) -> RelatedCall | None:
        """Load what was asked for last, and return what is to be sent next; None if that was all."""
        if isinstance(rows, LaneRefusal):
            self.entities = rows
            return None
        steps: Any = self._steps
        try:
            call: RelatedCall = steps.send(rows)
        except StopIteration:
            return None
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            self.entities = _NOT_LOADED
            return None
        return call

    def _load(self) -> Generator[Any, Rows, None]:
        """Be given the rows of the entities; load what belongs to them level by level, as SQLAlchemy does."""
        holder = _Holder(self.session)
        level: list[tuple[Place, list[Any]]] = []
        self.entities = holder.all_in(self._place, self._decoded((yield None)), level)
        if self._place.repeats:
            self.entities = _each_once(self.entities)
        while level:
            above, level = level, []
            for place, entities in above:
                for relation in place.relations:
                    loads: dict[int, tuple[Place, list[Any]]] = {}
                    for by_key in relation.batches(entities):
                        call = RelatedCall(self, relation, list(by_key), self._name)
                        found = relation.read.decoded((yield call))
                        batch: list[tuple[Place, list[Any]]] = []
                        related = holder.all_in(relation.place, found, batch)
                        relation.put(by_key, found, related)
                        for inside, several in batch:
                            loads.setdefault(id(inside), (inside, []))[1].extend(several)
                    level += [(inside, _each_once(several)) for inside, several in loads.values()]


class _Holder:
    """Holds entities while they are loaded: as a session does, or for this alone.

    It stands for the session and for its identity map when entities are made of rows.
    """

    def __init__(self, session: Session | None) -> None:
        self.identity_map = self
        self.hash_key = None if session is None else session.hash_key
        self._session = session
        self._own: dict[Any, Any] = {}
        self.get: Callable[[Any], Any] = self._own.get if session is None else session.identity_map.get
        self._options: tuple[Any, ...] = ()
        self._path: Any = None

    def all_in(self, place: Place, rows: Rows, further: list[tuple[Place, list[Any]]]) -> list[Any]:
        """Return the entities of rows, which hold now what stands beside them; add those that load more.

        Raises:
            ValueError: A row has no whole key.
        """
        by_place: dict[int, list[Any]] = {}
        found = self._with_joined(place, rows, by_place)
        for each in place.with_relations():
            entities = [entity for entity in _each_once(by_place[id(each)]) if entity is not None]
            further.append((each, entities))
        return found

    def _with_joined(self, place: Place, rows: Rows, by_place: dict[int, list[Any]]) -> list[Any]:
        found = by_place[id(place)] = self.loaded(place, rows)
        for later in place.later:
            later.put(found)
        for joined in place.joined:
            joined.put(found, self._with_joined(joined.place, rows, by_place), apart=self._session is None)
        return found

    def loaded(self, place: Place, rows: Rows) -> list[Any]:
        """Return the entities of rows.

        Raises:
            ValueError: A row has no whole key.
        """
        self._options, self._path = place.options, place.path
        holder: Any = self
        found = place.loader.load(rows, holder)
        if isinstance(found, LaneRefusal):
            raise ValueError(found)  # noqa: TRY004  # of the rows, no type of ours
        return found

    def add(self, state: InstanceState[Any]) -> None:
        """Hold an entity that is new here."""
        state.load_options, state.load_path = self._options, self._path
        if self._session is None:
            self._own[state.key] = state.obj()
        else:
            self._session.identity_map.add(state)


class RelatedCall:
    """One statement that asks for what belongs to entities. Lives: until its rows have come."""

    writes = False
    adds = False
    needs_primary = False
    effects: Effects = NOTHING

    def __init__(self, load: RelatedLoad, relation: Relation, keys: list[Any], name: str) -> None:
        self.name = name
        self._load = load
        self._read = relation.read
        self.statement = relation.statement
        self._filled = relation.read.arguments(StatementCall(self.statement, {KEYS: keys}, fixed=True))

    @property
    def sql(self) -> str:
        """The statement for so many keys."""
        return self._filled.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return parameters_of(self._filled.arguments)

    def rows(self, direct: Direct, driver: Any) -> Awaitable[Rows | LaneRefusal]:  # noqa: ANN401  # of any driver
        """Ask the driver."""
        return self._read.rows(direct, driver, self._filled)

    def described_by(self, cursor: Any) -> LaneRefusal | None:  # noqa: ANN401  # as the DBAPI says
        """Learn of the columns from a cursor."""
        return self._read.described_by(cursor)

    def learnt(self, columns: list[Column]) -> LaneRefusal | None:
        """Learn of the columns."""
        return self._read.learnt(columns)

    def forget_columns(self) -> None:
        """Learn of the columns anew with the next call."""
        self._read.forget_columns()

    def following(self, rows: Rows | LaneRefusal) -> RelatedCall | None:
        """Return what is to be sent next."""
        return self._load.go_on(rows)


def _warn_of_several(attribute: str) -> None:
    warn(f"Multiple rows returned with uselist=False for eagerly-loaded attribute '{attribute}' ")


def _each_once(entities: Iterable[Any]) -> list[Any]:
    return list({id(entity): entity for entity in entities}.values())


def _state(entity: Any) -> Any:  # noqa: ANN401  # of any class, and its state, which has a key
    return instance_state(entity)
