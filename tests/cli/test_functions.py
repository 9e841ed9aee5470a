"""``functions``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta

from cli.shop import Shop
from retell_flask import Call, RetellBlueprint
from retell_flask.testing import HEADER, sign
from support import KEY

SCHEMA = {
    "type": "object",
    "properties": {
        "day": {"type": "string"},
        "seats": {"type": "integer", "minimum": 1, "description": "How many.", "default": 2},
    },
    "required": ["day"],
}


def book(
    day: str, seats: Annotated[int, Meta(ge=1, description="How many.")] = 2, *, call: Call
) -> str:
    """Book a table.

    For one evening,
      at José's.
    """
    return f"{day} for {seats}"


def hang_up() -> None: ...


@pytest.fixture
def shop(shop: Shop, retell: RetellBlueprint) -> Shop:
    retell.function("book_table")(book)
    retell.function(hang_up)
    return shop


def test_functions_are_listed_in_order(shop: Shop) -> None:
    assert [line.split(maxsplit=2) for line in shop.run("functions").splitlines()] == [
        ["NAME", "PATH", "WHAT IT DOES"],
        ["book_table", "/webhooks/retellai/functions/book_table", "Book a table."],
        ["hang_up", "/webhooks/retellai/functions/hang_up", "(no description)"],
    ]


def test_those_that_are_named_are_shown_in_the_order_of_their_names(shop: Shop) -> None:
    assert "book_table" not in shop.run("functions", "hang_up")
    named = shop.run_json("functions", "hang_up", "book_table")
    assert [each["name"] for each in named] == ["hang_up", "book_table"]


def test_a_name_that_is_not_connected_is_refused_with_those_that_are(shop: Shop) -> None:
    output = shop.run("functions", "cancel", code=2)
    assert "There is no function 'cancel'. Connected: book_table, hang_up." in output
    for options in (["--schema"], ["--json"]):
        assert "There is no function" in shop.run("functions", "book", *options, code=2)


def test_a_name_does_not_reach_the_terminal_as_it_is(shop: Shop) -> None:
    assert "\x1b" not in shop.run("functions", "\x1b[31m", code=2)


def test_the_schema_of_a_function_can_be_pasted(shop: Shop) -> None:
    output = shop.run("functions", "--schema", "book_table")
    head, _, schema = output.partition("Parameters\n")
    assert head == (
        "Name         book_table\n"
        "URL          https://<your host>/webhooks/retellai/functions/book_table\n"
        "Description\n"
        "  Book a table.\n"
        "\n"
        "  For one evening,\n"
        "    at José's.\n"
    )
    assert json.loads(schema) == SCHEMA


def test_the_schemas_of_all_functions_follow_each_other(shop: Shop) -> None:
    first, second = shop.run("functions", "--schema").split("\n\nName ")
    assert "book_table" in first
    assert second.split()[0] == "hang_up"
    schema = second.partition("Parameters\n")[2]
    assert json.loads(schema) == {"type": "object", "properties": {}}


def test_json_is_a_list_of_tools(shop: Shop) -> None:
    first, second = shop.run_json("functions")
    assert first == {
        "type": "custom",
        "name": "book_table",
        "description": "Book a table.\n\nFor one evening,\n  at José's.",
        "url": "https://<your host>/webhooks/retellai/functions/book_table",
        "method": "POST",
        "parameters": SCHEMA,
    }
    assert (second["name"], second["description"]) == ("hang_up", "")
    Draft202012Validator.check_schema(first["parameters"])
    assert shop.run_json("functions", "--schema") == [first, second]


def test_json_is_json_whatever_the_defaults_are(shop: Shop, retell: RetellBlueprint) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    @retell.function
    def odd(number: float = float("nan"), limit: float = float("inf")) -> None: ...

    json.loads(shop.run("functions", "odd", "--json"), parse_constant=refuse)
    schema = shop.run("functions", "odd", "--schema").partition("Parameters\n")[2]
    json.loads(schema, parse_constant=refuse)


def test_without_a_function_there_is_a_word_on_why(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RetellBlueprint())
    for options in ([], ["--schema"]):
        assert shop.run("functions", *options) == (
            "No custom function is connected here. Is the module that they are in imported?\n"
        )
    assert shop.run_json("functions") == []
    assert "Connected: none." in shop.run("functions", "book", code=2)


def test_functions_are_shown_without_an_inbox(
    make_shop: Callable[..., Shop], retell: RetellBlueprint
) -> None:
    retell.function("book_table")(book)
    assert "book_table" in make_shop(RETELL_INBOX_URL="none").run("functions")


@pytest.mark.parametrize("prefix", ["/", "", "/hooks/", "/hooks"])
def test_the_path_is_where_the_function_answers(
    prefix: str, make_shop: Callable[..., Shop]
) -> None:
    blueprint = RetellBlueprint(url_prefix=prefix)
    blueprint.function("book_table")(lambda: "booked")
    shop = make_shop(blueprint)
    path = shop.run("functions").splitlines()[1].split()[1]
    assert path.startswith("/")
    response = shop.app.test_client().post(path, headers={HEADER: sign(b"", KEY)})
    assert response.text == "booked"


def test_one_of_several_blueprints_is_named(
    make_shop: Callable[..., Shop], retell: RetellBlueprint
) -> None:
    retell.function("book_table")(book)
    shop = make_shop()
    other = RetellBlueprint("other", url_prefix="/other")
    other.function("hang_up")(hang_up)
    shop.app.config["RETELL_INBOX_URL"] = "none"
    shop.app.register_blueprint(other)
    assert "add --blueprint" in shop.run("functions", code=2)
    assert "/other/functions/hang_up" in shop.run("functions", "--blueprint", "other")
    assert "hang_up" not in shop.run("functions", "--blueprint", "retell")


# What other commands do with their results


def call_book(shop: Shop) -> None:
    shop.client.call_function("book_table", {"day": "x"}, call_id="call_1")


def test_a_call_of_which_only_results_are_kept_can_be_forgotten(shop: Shop) -> None:
    call_book(shop)
    output = shop.run("forget", "call_1", "--yes")
    assert "Emptied 0 events and 1 result of functions of call_1." in output
    assert "There is no event of a call" in shop.run("forget", "call_1", "--yes", code=1)


def test_results_whose_time_is_over_are_pruned_where_no_event_is(shop: Shop) -> None:
    call_book(shop)
    shop.later(hours=25)
    shop.run("prune", "--dry-run")
    assert "1 result" in shop.run("forget", "call_1", input="n\n", code=1)
    shop.run("prune")
    shop.run("forget", "call_1", "--yes", code=1)
