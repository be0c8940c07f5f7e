"""Schemas show what is more than a column, where it is named, and refuse what they cannot show."""

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ConfigDict

from tests.fixtures.trees import Nest, Place, Tree, TreeName
from unitwork import OptionError
from unitwork.schemas import schema_for, source_of
from unitwork.schemas.description import Options, describe


def oak() -> Tree:
    """A tree with all that belongs to one."""
    return Tree(
        id=1,
        kind="oak",
        place=Place(Decimal("1.5"), None),
        bark=b"\xff\xfe",
        nests={7: Nest(id=1, number=7)},
        names={TreeName(id=1, word="old")},
    )


NAMED = {
    "species": "oak",
    "place": {"north": "1.5", "east": None},
    "nests": {"7": {"id": 1, "tree_id": None, "number": 7}},
    "words": ["old"],
}


@pytest.mark.parametrize("name", NAMED)
def test_attribute_that_is_named_is_shown(name: str) -> None:
    """Synonyms, composites, dicts of entities, proxies; by themselves, and beside others."""
    schema = schema_for(Tree, include={name})

    assert json.loads(schema.model_validate(oak()).model_dump_json()) == {name: NAMED[name]}
    assert schema.model_json_schema()["required"] == [name]


def test_dicts_of_entities_are_followed_by_depth() -> None:
    """As lists of them are."""
    schema = schema_for(Tree, depth=1)

    shown: Any = schema.model_validate(oak())
    assert shown.nests[7].number == 7
    assert [name.word for name in shown.names] == ["old"]


def test_source_says_the_same() -> None:
    """Run, it has the same fields."""
    options = Options.of(include=["nests", "place", "words", "species"])
    names: dict[str, Any] = {}
    exec(source_of([describe(Tree, options)], "made for a test"), names)  # noqa: S102  # our own source

    written = names["TreeSchema"]

    assert json.loads(written.model_validate(oak()).model_dump_json()) == NAMED


@pytest.mark.parametrize("purpose", ["create", "update"])
@pytest.mark.parametrize("name", ["species", "place", "nests", "words"])
def test_what_cannot_be_written_is_refused(purpose: Any, name: str) -> None:  # noqa: ANN401  # one of two
    """A schema of what comes in has columns alone; nothing that was named is left out silently."""
    with pytest.raises(OptionError, match=rf"include does not take '{name}'(.|\n)*'bark' or 'id' or 'kind'"):
        schema_for(Tree, purpose=purpose, include={name})


@pytest.mark.skipif("val_json_bytes" not in ConfigDict.__annotations__, reason="needs Pydantic 2.9")
def test_json_of_bytes_is_what_models_read() -> None:
    """Bytes that are no text, too: base64, as `dump_model` writes them."""
    schema = schema_for(Tree, include={"bark"})

    written = schema.model_validate(oak()).model_dump_json()

    assert schema.model_validate_json(written) == schema.model_validate(oak())
    assert Tree.load(json.loads(written)).bark == b"\xff\xfe"
    new: Any = schema_for(Tree, purpose="create").model_validate_json(
        '{"kind": "oak", "latitude": 1, "bark": "//4="}'
    )
    assert new.bark == b"\xff\xfe"
