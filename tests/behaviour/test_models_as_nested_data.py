"""Attributes that are more than columns become plain data and JSON, and come back."""

import json
from decimal import Decimal

import pytest
from sqlalchemy.orm import selectinload

from tests.fixtures.trees import Nest, Place, Tree, TreeName, Trees
from unitwork import Database, OptionError, Repository, UnloadedAttributeError

EVERYTHING = ["kind", "place", "bark", "nests", "names"]


def oak() -> Tree:
    """A tree with all that belongs to one."""
    return Tree(
        kind="oak",
        place=Place(Decimal("1.5000"), None),
        bark=b"\xff\xfe",
        nests={7: Nest(number=7), 9: Nest(number=9)},
        names={TreeName(word="old")},
    )


def test_plain_data_has_no_entity_inside() -> None:
    """Of a dict and a set of entities, and of what a proxy shows; a composite value stays itself."""
    data = oak().to_dict(["species", "place", "nests", "words"])

    assert data["species"] == "oak"
    assert data["place"] == Place(Decimal("1.5000"), None)
    assert [(number, nest["number"]) for number, nest in data["nests"].items()] == [(7, 7), (9, 9)]
    assert data["words"] == ["old"]
    assert type(data["words"]) is list


def test_entity_survives_json() -> None:
    """Composites by their parts, collections as what the relationship holds, keys as they were."""
    written = json.loads(json.dumps(oak().dump_model(EVERYTHING)))
    assert written["place"] == {"north": "1.5000", "east": None}
    assert set(written["nests"]) == {"7", "9"}

    tree = Tree.load(written)

    assert (tree.kind, tree.place, tree.bark) == ("oak", Place(Decimal("1.5000"), None), b"\xff\xfe")
    assert (tree.latitude, tree.longitude) == (Decimal("1.5000"), None)
    assert {number: nest.number for number, nest in tree.nests.items()} == {7: 7, 9: 9}
    assert [name.word for name in tree.names] == ["old"]


def test_composite_that_is_none_has_no_parts() -> None:
    """Both ways; what a missing one reads as depends on SQLAlchemy's version."""
    tree = Tree.load({"kind": "oak", "place": None})

    assert [tree.latitude, tree.longitude] == [None, None]
    assert tree.dump_model(["latitude"]) == {"latitude": None}


def test_unknown_part_of_a_composite_is_refused() -> None:
    """With the parts that there are."""
    with pytest.raises(OptionError, match=r"place does not take 'up'(.|\n)*'north' or 'east'"):
        Tree.load({"kind": "oak", "place": {"north": "1", "up": "2"}})


async def test_what_is_not_loaded_is_named(db: Database) -> None:
    """Also behind a proxy: nothing is loaded, and nothing fails deep inside of SQLAlchemy."""
    await db.create_all(Trees)
    trees = Repository[Tree](db)
    await trees.add(oak())

    tree = await trees.get_one(1)
    assert tree.to_dict(["species", "place"]) == {"species": "oak", "place": Place(Decimal("1.5000"), None)}
    for name in ("words", "nests", "names"):
        with pytest.raises(UnloadedAttributeError, match=name):
            tree.to_dict([name])
    loaded = await trees.get_one(1, options=[selectinload(Tree.names)])
    assert loaded.to_dict(["words"]) == {"words": ["old"]}
