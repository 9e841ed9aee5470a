"""What a function takes: which signatures there can be, and how arguments are read."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from functions.shapes import SHAPES, Address, Order, Shape, Size, Tree, constrained, nested
from retell_flask import Call, ConfigurationError, RetellBlueprint
from retell_flask.functions.definition import CustomFunction, Functions
from retell_flask.functions.parameters import Parameters, texts_of_json, texts_of_query

CALL = Call(call_id="call_1")


class Plain:
    """A class that has no form in JSON."""


class Unfinished(Struct):
    there: Nowhere  # type: ignore[name-defined] # noqa: F821


class Even(Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("an odd number of shoes")


class Desk:
    """Takes orders."""

    def __call__(self, order: Order, *, call: Call) -> None: ...

    def method(self, seats: int) -> None: ...

    @staticmethod
    def static(seats: int) -> None: ...


def read(function: Callable[..., Any], call: Call | None = None, /, **values: Any) -> Any:
    """What is read from JSON values in a body."""
    sent = {name: texts_of_json(json.dumps(value).encode()) for name, value in values.items()}
    return Parameters(function).read(sent, call)


def ask(function: Callable[..., Any], /, **values: str | list[str]) -> Any:
    """What is read from the values of a query."""
    sent = {
        name: texts_of_query([value] if isinstance(value, str) else value)
        for name, value in values.items()
    }
    return Parameters(function).read(sent, None)


def complaint(function: Callable[..., Any], /, **values: Any) -> str:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        read(function, **values)
    return str(caught.value)


def complaint_of(parameters: Parameters, sent: dict[str, list[bytes]]) -> str:
    """What is wrong with what was sent, if anything is."""
    try:
        parameters.read(sent, None)
    except ValueError as error:
        return str(error)
    return ""


# Signatures


def variadic(*tables: int) -> None: ...


def variadic_keywords(**tables: int) -> None: ...


def positional_only(tables: int, /) -> None: ...


def unannotated(tables, seats: int) -> None: ...  # type: ignore[no-untyped-def]


def call_among_the_arguments(seats: int, tables: Call) -> None: ...


def optional_call_among_the_arguments(tables: Call | None = None) -> None: ...


def two_calls(*, tables: Call, more: Call) -> None: ...


def of_a_class(tables: Plain) -> None: ...


def of_classes(seats: int, tables: list[Plain]) -> None: ...


def of_complex(tables: complex) -> None: ...


def of_functions(tables: Callable[[], int]) -> None: ...


def of_two_structs(tables: Order | Address) -> None: ...


def of_calls(*, tables: list[Call]) -> None: ...


def of_nowhere(tables: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


def of_nowhere_within(tables: list[Unfinished]) -> None: ...


UNFIT = [
    variadic,
    variadic_keywords,
    positional_only,
    unannotated,
    call_among_the_arguments,
    optional_call_among_the_arguments,
    of_a_class,
    of_classes,
    of_complex,
    of_functions,
    of_two_structs,
    of_calls,
]


@pytest.mark.parametrize("function", UNFIT, ids=lambda function: function.__name__)
def test_an_unfit_signature_is_refused_with_a_word_on_where_it_is(
    function: Callable[..., Any],
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Parameters(function)
    text = str(caught.value)
    assert f":{function.__name__} cannot be a custom function: " in text
    assert "'tables'" in text
    assert "\n" not in text
    assert "schema_hook" not in text  # which is not ours to offer


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (variadic, r"no \*args, no \*\*kwargs, and no / after it"),
        (unannotated, "has no annotation: write tables: str"),
        (two_calls, "two of its parameters are a Call"),
        (call_among_the_arguments, r"put it behind a \* in the signature"),
        (of_nowhere, "have to be at the top level of its module, and defined before it"),
    ],
)
def test_an_unfit_signature_is_refused_with_what_to_do(
    function: Callable[..., Any], advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        Parameters(function)


@pytest.mark.parametrize(
    ("function", "type_name"),
    [(of_a_class, "Plain"), (of_complex, "complex"), (of_functions, "Callable")],
)
def test_a_type_without_a_form_in_json_is_named(
    function: Callable[..., Any], type_name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"'tables'.*{type_name}"):
        Parameters(function)


@pytest.mark.parametrize("function", [of_nowhere, of_nowhere_within])
def test_a_type_that_is_nowhere_is_named(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=f":{function.__name__} cannot .*'Nowhere'"):
        Parameters(function)


@pytest.mark.parametrize("function", [max, int, print])
def test_what_cannot_be_looked_into_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"builtins:\w+ cannot be a custom function"):
        CustomFunction(function, "book", None)


@pytest.mark.parametrize("function", [5, "text", None])
def test_what_cannot_be_called_is_no_function(function: Any) -> None:
    with pytest.raises(TypeError, match="function decorates a function"):
        CustomFunction(function, "book", None)


def test_a_local_type_is_named_in_the_refusal() -> None:
    class Local(Struct):
        number: int

    def function(local: Local) -> None: ...

    with pytest.raises(ConfigurationError, match="name 'Local' is not defined"):
        Parameters(function)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Desk(), ["order"]),
        (Desk().method, ["seats"]),
        (Desk.static, ["seats"]),
        (functools.partial(constrained, code="AB1"), ["seats", "code", "tags"]),
    ],
    ids=["object", "method", "static method", "partial"],
)
def test_whatever_is_callable_has_parameters(
    function: Callable[..., Any], names: list[str]
) -> None:
    assert list(Parameters(function).schema["properties"]) == names


def test_a_wrapped_function_has_its_own_parameters() -> None:
    @functools.wraps(constrained)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert Parameters(wrapper).schema == Parameters(constrained).schema


def test_a_coroutine_function_has_parameters() -> None:
    async def book(seats: int) -> None: ...

    assert read(book, seats=2) == {"seats": 2}


# The call


def with_call(seats: int, *, call: Call) -> None: ...


def with_optional_call(seats: int, *, about: Optional[Call] = None) -> None: ...  # noqa: UP045


def test_the_call_is_given_and_not_asked_for() -> None:
    assert Parameters(with_call).schema["properties"] == {"seats": {"type": "integer"}}
    assert read(with_call, CALL, seats=2) == {"seats": 2, "call": CALL}
    assert read(with_optional_call, CALL, seats=2) == {"seats": 2, "about": CALL}
    assert read(with_optional_call, None, seats=2) == {"seats": 2, "about": None}


def test_the_model_cannot_give_the_call() -> None:
    assert read(with_call, CALL, seats=2, call={"call_id": "mine"})["call"] is CALL


def test_a_call_is_missed_where_the_function_cannot_do_without() -> None:
    needy, easy = Parameters(with_call), Parameters(with_optional_call)
    with pytest.raises(ConfigurationError, match=r"args only.*annotate it as Call \| None"):
        needy.check_call({"seats": 2, "call": None})
    needy.check_call({"seats": 2, "call": CALL})
    easy.check_call({"seats": 2, "about": None})


def test_a_parameter_named_call_may_be_anything_else() -> None:
    def ring(call: str) -> None: ...

    assert read(ring, CALL, call="back") == {"call": "back"}


# Reading


def lenient(
    whole: int = 0,
    decimal: float = 0.0,
    text: str = "",
    is_new: bool = False,
    maybe: int | None = 0,
    either: int | str = 0,
    day: date = date.min,
    literal: Literal["1", "2"] = "1",
    size: Size = Size.SMALL,
) -> None: ...


@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        ("whole", "2", 2),
        ("whole", 2.0, 2),
        ("whole", "-2", -2),
        ("decimal", "2.5", 2.5),
        ("decimal", 2, 2.0),
        ("text", 123, "123"),
        ("text", 4155550142, "4155550142"),
        ("text", -1.5, "-1.5"),
        ("text", "123", "123"),
        ("text", "null", "null"),
        ("is_new", "true", True),
        ("is_new", "false", False),
        ("maybe", None, None),
        ("maybe", "2", 2),
        ("either", "2", "2"),
        ("either", 2, 2),
        ("day", "2026-11-01", date(2026, 11, 1)),
        ("literal", 2, "2"),
        ("size", "large", Size.LARGE),
    ],
)
def test_arguments_are_read_leniently(name: str, sent: Any, value: Any) -> None:
    found = read(lenient, **{name: sent})
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize("number", ["1e400", "1" * 400, "-0", "0.10", "1E5"])
def test_a_number_that_is_meant_as_text_keeps_its_digits(number: str) -> None:
    def note(text: str) -> None: ...

    found = Parameters(note).read({"text": texts_of_json(number.encode())}, None)
    assert found == {"text": number}


@pytest.mark.parametrize("name", ["whole", "decimal", "text", "is_new", "either", "day", "size"])
def test_null_stands_for_the_default(name: str) -> None:
    assert read(lenient, **{name: None}) == {}


def test_null_is_no_value_where_there_is_no_default() -> None:
    assert complaint(constrained, seats=None, code="AB1").startswith("seats: Expected `int`")


def test_more_than_the_function_takes_is_left_out() -> None:
    assert read(lenient, whole=1, execution_message="Let me see.", call_id=[]) == {"whole": 1}


def test_the_order_of_arguments_is_that_of_the_signature() -> None:
    assert list(read(constrained, tags=[], code="AB1", seats=2)) == ["seats", "code", "tags"]


# From a query


@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        ("whole", "2", 2),
        ("decimal", "2.5", 2.5),
        ("text", "2", "2"),
        ("text", "", ""),
        ("text", "null", "null"),
        ("text", '{"a": 1}', '{"a": 1}'),
        ("text", "José & co", "José & co"),
        ("is_new", "true", True),
        ("is_new", "0", False),
        ("maybe", "null", None),
        ("either", "2", "2"),
        ("day", "2026-11-01", date(2026, 11, 1)),
        ("size", "large", Size.LARGE),
    ],
)
def test_values_of_a_query_are_read_by_their_types(name: str, sent: str, value: Any) -> None:
    assert ask(lenient, **{name: sent}) == {name: value}


def with_lists(
    tags: list[str] = [],  # noqa: B006
    numbers: set[int] = set(),  # noqa: B006
    order: Order | None = None,
    pairs: dict[str, int] = {},  # noqa: B006
) -> None: ...


@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        ("tags", ["a", "b"], ["a", "b"]),
        ("tags", "a", ["a"]),
        ("tags", "", [""]),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("numbers", ["1", "2"], {1, 2}),
        ("numbers", "1", {1}),
        ("numbers", "[1, 2]", {1, 2}),
        ("pairs", '{"a": "1"}', {"a": 1}),
        ("pairs", ' {"a": 1}', {"a": 1}),
    ],
)
def test_lists_and_objects_of_a_query(name: str, sent: Any, value: Any) -> None:
    assert ask(with_lists, **{name: sent}) == {name: value}


def test_an_object_in_a_query_is_typed() -> None:
    (order,) = ask(with_lists, order='{"items": [{"name": "a", "price": "2"}]}').values()
    assert order.items[0].price == 2.0


@pytest.mark.parametrize("sent", ["", "many", "{", "[1", '{"a":', "2.5", ["1", "2"]])
def test_a_query_that_does_not_fit_is_complained_of(sent: Any) -> None:
    with pytest.raises(ValueError, match=r"^seats: .*\.$"):
        ask(constrained, seats=sent, code="AB1")


# Complaints


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"code": "AB1"}, "seats: it is missing."),
        (
            {"seats": "many", "code": "AB1"},
            "seats: Expected `int`, got `str`. It has to fit "
            '{"description": "How many come.", "type": "integer", "minimum": 1, "maximum": 20}.',
        ),
        (
            {"seats": 21, "code": "AB1"},
            "seats: Expected `int` <= 20. It has to fit "
            '{"description": "How many come.", "type": "integer", "minimum": 1, "maximum": 20}.',
        ),
        ({"seats": 2, "code": ["AB1"]}, "code: Expected `str`, got `array`. It has to fit"),
        ({}, "seats: it is missing. code: it is missing."),
        ({"seats": 2, "code": "AB1", "tags": ["a", ""]}, "tags[1]: Expected `str` of length >="),
    ],
)
def test_complaints_are_sentences_that_name_the_parameter(
    values: dict[str, Any], text: str
) -> None:
    assert complaint(constrained, **values).startswith(text)


def test_a_complaint_names_the_place_within() -> None:
    order = {"items": [{"name": "a", "price": 1}, {"name": "b", "price": "dear"}]}
    assert complaint(nested, order=order).startswith(
        "order.items[1].price: Expected `float`, got `str`."
    )


def test_a_complaint_about_a_key_is_in_words_too() -> None:
    def function(tables: dict[int, str]) -> None: ...

    text = complaint(function, tables={"first": "a"})
    assert text.startswith("tables")
    assert "$" not in text.partition("It has to fit")[0]


def test_a_long_schema_is_not_told() -> None:
    def function(order: Order, others: list[Order], more: list[Order]) -> None: ...

    assert len(json.dumps(Parameters(function).schema["properties"]["order"])) > 600
    assert "It has to fit" not in complaint(function, order={}, others=[], more=[])


def test_all_complaints_are_made_at_once() -> None:
    text = complaint(constrained, seats=0, code="ab")
    assert "seats: Expected `int` >= 1." in text
    assert "code: Expected `str` matching regex" in text


def test_what_a_type_of_the_host_s_says_is_told() -> None:
    def shoes(pair: Even) -> None: ...

    assert read(shoes, pair={"number": 2}) == {"pair": Even(2)}
    assert complaint(shoes, pair={"number": 3}).startswith("pair: an odd number of shoes.")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("shape", SHAPES, ids=[each.function.__name__ for each in SHAPES])
def test_nothing_that_is_sent_raises_anything_else_than_a_complaint(shape: Shape) -> None:
    parameters = Parameters(shape.function)
    names = list(shape.values)

    @settings(max_examples=40)
    @given(st.fixed_dictionaries({name: _json | st.lists(st.text()) for name in names}))
    def check(values: dict[str, Any]) -> None:
        in_query = {
            name: texts_of_query([each] if isinstance(each, str) else each)
            for name, each in values.items()
            if isinstance(each, str)
            or (isinstance(each, list) and all(isinstance(one, str) for one in each))
        }
        in_body = {name: texts_of_json(msgspec.json.encode(v)) for name, v in values.items()}
        for sent in (in_body, in_query):
            if text := complaint_of(parameters, sent):
                assert text.startswith(tuple(names))
                assert text.endswith(".")

    check()


@pytest.mark.parametrize(
    "text",
    [b'"\\ud800"', b'"\xff"', b"1e400", b"[" * 400 + b"]" * 400, b"1-2", b'{"a":1,"a":2}', b"-"],
)
def test_odd_json_is_read_or_complained_of(text: bytes) -> None:
    for function in (constrained, with_lists, lenient):
        parameters = Parameters(function)
        for name in parameters.schema["properties"]:
            sent = {"seats": [b"1"], "code": [b'"AB1"'], name: texts_of_json(text)}
            found = complaint_of(parameters, sent)
            assert not found or found.startswith(name)


def test_a_tree_of_many_levels_is_read() -> None:
    def plant(tree: Tree) -> None: ...

    text = b'{"value":1,"children":[' * 50 + b'{"value":2}' + b"]}" * 50
    (tree,) = Parameters(plant).read({"tree": [text]}, None).values()
    assert tree.children[0].children[0].value == 1


# Names


def test_the_name_is_the_function_s_own_unless_another_is_given(retell: RetellBlueprint) -> None:
    @retell.function
    def book_table(seats: int) -> None: ...

    @retell.function("book-2")
    def book(seats: int) -> None: ...

    @retell.function()
    def cancel(seats: int) -> None: ...

    assert [each.name for each in retell.functions] == ["book_table", "book-2", "cancel"]
    assert book(2) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64])
def test_names_that_retell_takes(name: str) -> None:
    assert CustomFunction(constrained, name, None).name == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "two words", "é", "a/b", "a.b", "shop:book", "٣", "a\n", b"book", 5]
)
def test_names_that_retell_does_not_take(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="1 to 64 letters, digits, _ and -"):
        CustomFunction(constrained, name, None)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="cannot be a custom function named '<lambda>'"):
        CustomFunction(lambda: None, None, None)


def test_a_name_is_given_once() -> None:
    functions = Functions()
    functions.add(CustomFunction(constrained, "book", None))
    with pytest.raises(ConfigurationError, match=r"The custom function 'book' is .*:constrained"):
        functions.add(CustomFunction(nested, "book", None))
    found = functions.get("book")
    assert found is not None
    assert found.function is constrained
    assert functions.get("Book") is None


def documented(seats: Annotated[int, Meta(ge=1)]) -> None:
    """Book a table.

    For the evening.
    """


@pytest.mark.parametrize(
    ("function", "given_", "description"),
    [
        (documented, None, "Book a table.\n\nFor the evening."),
        (documented, "Another.", "Another."),
        (documented, "", ""),
        (constrained, None, ""),
        (Desk(), None, "Takes orders."),
        (functools.partial(documented), None, "Book a table.\n\nFor the evening."),
    ],
    ids=["docstring", "given", "empty", "none", "object", "partial"],
)
def test_the_description_is_the_docstring_unless_another_is_given(
    function: Callable[..., Any], given_: str | None, description: str
) -> None:
    assert CustomFunction(function, "book", given_).description == description
