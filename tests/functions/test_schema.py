"""The schema that Retell's dashboard takes, and what is read by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions import shapes
from functions.shapes import SHAPES, Shape
from retell_flask.functions.parameters import Parameters, texts_of_json

each_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=[shape.function.__name__ for shape in SHAPES]
)
each_wrong = pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        pytest.param(shape, wrong, id=f"{shape.function.__name__} {number}")
        for shape in SHAPES
        for number, wrong in enumerate(shape.wrong)
    ],
)


def validator(parameters: Parameters) -> Draft202012Validator:
    return Draft202012Validator(
        parameters.schema, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def texts(values: dict[str, Any]) -> dict[str, list[bytes]]:
    """As they stand in a body."""
    return {name: texts_of_json(msgspec.json.encode(value)) for name, value in values.items()}


def schemas_within(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all that it is made of, without the values in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    below = [schema.get("items"), schema.get("additionalProperties")]
    below += schema.get("anyOf", []) + schema.get("prefixItems", [])
    below += schema.get("properties", {}).values()
    for each in below:
        yield from schemas_within(each)


@each_shape
def test_a_schema_is_one(shape: Shape) -> None:
    schema = Parameters(shape.function).schema
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


@each_shape
def test_a_schema_refers_to_nothing(shape: Shape) -> None:
    for schema in schemas_within(Parameters(shape.function).schema):
        assert not {"$ref", "$defs", "discriminator"} & set(schema)


@each_shape
def test_a_schema_has_the_parameters_in_order(shape: Shape) -> None:
    assert list(Parameters(shape.function).schema["properties"]) == list(shape.values)


@each_shape
def test_typed_values_fit_the_schema_and_come_back(shape: Shape) -> None:
    parameters = Parameters(shape.function)
    valid = validator(parameters)

    @settings(max_examples=30)
    @given(st.fixed_dictionaries(shape.values))
    def check(values: dict[str, Any]) -> None:
        valid.validate(json.loads(msgspec.json.encode(values)))
        assert parameters.read(texts(values), None) == values

    check()


@each_wrong
def test_what_does_not_fit_is_refused_by_the_schema_and_the_reader(
    shape: Shape, wrong: dict[str, Any]
) -> None:
    parameters = Parameters(shape.function)
    assert not validator(parameters).is_valid(wrong)
    with pytest.raises(ValueError, match=r"\."):
        parameters.read(texts(wrong), None)


@each_shape
def test_each_default_fits_the_schema_that_names_it(shape: Shape) -> None:
    for schema in schemas_within(Parameters(shape.function).schema):
        if "default" in schema:
            Draft202012Validator(schema).validate(schema["default"])


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("whole", {"type": "integer"}),
        ("decimal", {"type": "number"}),
        ("is_new", {"type": "boolean"}),
        ("text", {"type": "string"}),
    ],
)
def test_simple_types(name: str, schema: Any) -> None:
    assert Parameters(shapes.numbers).schema["properties"][name] == schema


@pytest.mark.parametrize(
    ("function", "name", "schema"),
    [
        (shapes.literals, "day", {"type": "string", "enum": ["monday", "tuesday"]}),
        (shapes.literals, "number", {"type": "integer", "enum": [1, 2], "default": 1}),
        (shapes.enums, "size", {"title": "Size", "type": "string", "enum": ["large", "small"]}),
    ],
)
def test_choices_are_told_with_their_type_if_they_have_one(
    function: Callable[..., Any], name: str, schema: Any
) -> None:
    found = Parameters(function).schema["properties"][name]
    assert {key: value for key, value in found.items() if key != "description"} == schema


def test_what_has_no_default_is_required() -> None:
    assert Parameters(shapes.numbers).schema["required"] == [*shapes.SHAPES[0].values]
    assert Parameters(shapes.literals).schema["required"] == ["day"]
    assert Parameters(shapes.nothing).schema == {"type": "object", "properties": {}}


def test_defaults_are_in_the_schema() -> None:
    properties = Parameters(shapes.times).schema["properties"]
    assert properties["length"]["default"] == "PT1800S"
    properties = Parameters(shapes.odd_defaults).schema["properties"]
    assert properties["options"]["default"] == {"$ref": "#/$defs/x"}
    assert properties["rows"]["default"] == [{"discriminator": {"$ref": 1}}]
    assert Parameters(shapes.enums).schema["properties"]["level"]["default"] == 1


@pytest.mark.parametrize("default", [float("nan"), float("inf"), object()])
def test_a_default_without_a_form_in_json_is_left_out(default: Any) -> None:
    def function(number: float = default) -> None: ...

    assert Parameters(function).schema["properties"] == {"number": {"type": "number"}}


def test_constraints_and_descriptions_are_in_the_schema() -> None:
    properties = Parameters(shapes.constrained).schema["properties"]
    assert properties["seats"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 20,
        "description": "How many come.",
    }
    assert properties["code"]["maxLength"] == 6
    order = Parameters(shapes.nested).schema["properties"]["order"]
    item = order["properties"]["items"]["items"]
    assert item["description"] == "One line of an order."
    assert item["properties"]["price"]["description"] == "In euros."


def test_a_parameter_s_own_description_goes_before_that_of_its_type() -> None:
    properties = Parameters(shapes.described).schema["properties"]
    assert properties["item"]["description"] == "What it is about."
    assert properties["item"]["examples"] == [{"$ref": "x"}]
    assert properties["guest"]["title"] == "Somebody"
    assert properties["guest"]["description"] == "Who comes."


def test_the_members_of_a_tagged_union_name_their_tags() -> None:
    pay = Parameters(shapes.tagged).schema["properties"]["pay"]
    assert [each["properties"]["kind"] for each in pay["anyOf"]] == [
        {"type": "string", "enum": ["card"]},
        {"type": "string", "enum": ["cash"]},
    ]
    assert all("kind" in each["required"] for each in pay["anyOf"])


def test_a_type_inside_of_itself_is_any_of_its_kind() -> None:
    properties = Parameters(shapes.trees).schema["properties"]
    assert properties["tree"]["properties"]["children"]["items"] == {"type": "object"}
    row = Parameters(shapes.chains).schema["properties"]["row"]
    assert row["prefixItems"][1]["items"] == {"type": "array"}


def test_one_type_in_two_places_is_written_out_in_both() -> None:
    properties = Parameters(shapes.nested).schema["properties"]
    assert properties["others"]["items"] == properties["order"]


def test_parameters_may_have_the_names_of_keywords() -> None:
    properties = Parameters(shapes.odd_names).schema["properties"]
    assert properties["discriminator"] == {"type": "integer"}
    assert properties["properties"] == {"type": "string"}
    assert properties["default"] == {"type": "boolean"}
    assert properties["call_id"] == {"type": "string"}
    odd = properties["odd"]
    assert odd["properties"]["$ref"] == {"type": "string"}
    assert "anyOf" in odd["properties"]["discriminator"]
    assert odd["required"] == ["$ref", "properties", "required", "discriminator"]
