"""Functions of many signatures, with arguments that fit them and arguments that do not."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict

import msgspec
from hypothesis import strategies as st
from msgspec import Meta, Struct

Name = NewType("Name", str)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Item(Struct):
    """One line of an order."""

    name: str
    price: Annotated[float, Meta(ge=0, description="In euros.")]
    size: Size = Size.SMALL


class Address(Struct, forbid_unknown_fields=True):
    street: str
    number: int | None = None


class Order(Struct):
    items: Annotated[list[Item], Meta(min_length=1)]
    to: Address | None = None


class Card(Struct, tag="card", tag_field="kind"):
    number: str


class Cash(Struct, tag="cash", tag_field="kind"):
    amount: int
    coins: list[int] = []


class Tree(Struct):
    value: int
    children: list[Tree] = []


class Row(Struct, array_like=True):
    value: int
    below: list[Row] = []


class Chain(NamedTuple):
    value: int
    next: Chain | None = None


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Odd(Struct):
    """Fields with the names of keywords."""

    ref: str = msgspec.field(name="$ref")
    properties: int
    required: bool
    discriminator: Card | Cash
    default: dict[str, int] = {}
    enum: list[str] = []


class Camel(Struct, rename="camel"):
    first_name: str


@dataclass
class Guest:
    """Who comes."""

    name: str
    tags: list[str] = field(default_factory=list)


class _Phone(TypedDict):
    phone: str


class Contact(_Phone, total=False):
    mail: str


def numbers(whole: int, decimal: float, is_new: bool, text: str) -> None: ...


def literals(day: Literal["monday", "tuesday"], number: Literal[1, 2] = 1) -> None: ...


def enums(size: Size, level: Level = Level.LOW) -> None: ...


def optional(number: int | None, text: Optional[str] = None) -> None: ...  # noqa: UP045


def unions(value: int | str | list[int], other: bool | Guest | None = None) -> None: ...


def containers(
    tags: list[str],
    prices: dict[str, float],
    unique: set[int],
    pair: tuple[int, str],
    many: tuple[int, ...] = (),
) -> None: ...


def nested(order: Order, others: list[Order] = []) -> None: ...  # noqa: B006


def tagged(pay: Card | Cash, history: list[Card | Cash], tip: Cash | None = None) -> None: ...


def data(guest: Guest, contact: Contact, point: Point) -> None: ...


def times(
    at: datetime, day: date, hour: time, length: timedelta = timedelta(minutes=30)
) -> None: ...


def scalars(
    key: uuid.UUID, price: Decimal, content: bytes = b"", name: Name = Name("x"), other: Any = None
) -> None: ...


def constrained(
    seats: Annotated[int, Meta(ge=1, le=20, description="How many come.")],
    code: Annotated[str, Meta(pattern="^[A-Z]{2}[0-9]+$", max_length=6)],
    tags: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=2)] = [],  # noqa: B006
) -> None: ...


def described(
    item: Annotated[Item, Meta(description="What it is about.", examples=[{"$ref": "x"}])],
    guest: Annotated[Guest, Meta(title="Somebody")],
) -> None: ...


def trees(tree: Tree, forest: dict[str, Tree] = {}) -> None: ...  # noqa: B006


def chains(chain: Chain, row: Row) -> None: ...


def odd_names(
    discriminator: int, properties: str, default: bool, call_id: str, required: list[str], odd: Odd
) -> None: ...


def odd_defaults(
    options: dict[str, str] = {"$ref": "#/$defs/x"},  # noqa: B006
    rows: list[dict[str, Any]] = [{"discriminator": {"$ref": 1}}],  # noqa: B006
) -> None: ...


def renamed(camel: Camel) -> None: ...


def nothing() -> None: ...


_text = st.text(max_size=8)
_int = st.integers(-(2**70), 2**70)
_float = st.floats(allow_nan=False, allow_infinity=False)
_guests = st.builds(Guest, _text, st.lists(_text, max_size=2))
_items = st.builds(Item, _text, _float.map(abs), st.sampled_from(Size))
_addresses = st.builds(Address, _text, st.none() | _int)
_orders = st.builds(Order, st.lists(_items, min_size=1, max_size=3), st.none() | _addresses)
_cash = st.builds(Cash, _int, st.lists(_int, max_size=2))
_payments = st.builds(Card, _text) | _cash
_trees = st.recursive(
    st.builds(Tree, _int),
    lambda below: st.builds(Tree, _int, st.lists(below, max_size=3)),
    max_leaves=5,
)
_rows = st.recursive(
    st.builds(Row, _int),
    lambda below: st.builds(Row, _int, st.lists(below, max_size=3)),
    max_leaves=5,
)
_chains = st.recursive(
    st.builds(Chain, _int), lambda below: st.builds(Chain, _int, below), max_leaves=5
)
_moments = st.datetimes(timezones=st.just(timezone.utc)) | st.datetimes()
_odd = st.builds(
    Odd,
    ref=_text,
    properties=_int,
    required=st.booleans(),
    discriminator=_payments,
    default=st.dictionaries(_text, _int, max_size=2),
    enum=st.lists(_text, max_size=2),
)


class Shape(NamedTuple):
    """``wrong`` has JSON arguments, each list of which has one that does not fit."""

    function: Callable[..., Any]
    values: dict[str, st.SearchStrategy[Any]]
    wrong: list[dict[str, Any]] = []


SHAPES = [
    Shape(
        numbers,
        {"whole": _int, "decimal": _float, "is_new": st.booleans(), "text": _text},
        [
            {"whole": 1.5, "decimal": 1, "is_new": True, "text": ""},
            {"whole": 1, "decimal": "many", "is_new": True, "text": ""},
            {"whole": 1, "decimal": 1, "is_new": "perhaps", "text": ""},
            {"whole": 1, "decimal": 1, "is_new": True, "text": ["a"]},
            {"whole": None, "decimal": 1, "is_new": True, "text": ""},
            {"decimal": 1, "is_new": True, "text": ""},
            {},
        ],
    ),
    Shape(
        literals,
        {"day": st.sampled_from(["monday", "tuesday"]), "number": st.sampled_from([1, 2])},
        [{"day": "sunday"}, {"day": "Monday"}, {"day": "monday", "number": 3}, {"number": 1}],
    ),
    Shape(
        enums,
        {"size": st.sampled_from(Size), "level": st.sampled_from(Level)},
        [{"size": "SMALL"}, {"size": 1}, {"size": "small", "level": 3}],
    ),
    Shape(
        optional,
        {"number": st.none() | _int, "text": st.none() | _text},
        [{"text": None}, {"number": "many"}, {"number": 1, "text": {}}],
    ),
    Shape(
        unions,
        {
            "value": _int | _text | st.lists(_int, max_size=3),
            "other": st.none() | st.booleans() | _guests,
        },
        [{"value": {}}, {"value": ["many"]}, {"value": 1, "other": {"tags": []}}],
    ),
    Shape(
        containers,
        {
            "tags": st.lists(_text, max_size=3),
            "prices": st.dictionaries(_text, _float, max_size=3),
            "unique": st.sets(_int, max_size=3),
            "pair": st.tuples(_int, _text),
            "many": st.lists(_int, max_size=3).map(tuple),
        },
        [
            {"tags": "a", "prices": {}, "unique": [], "pair": [1, ""]},
            {"tags": [], "prices": {"a": "many"}, "unique": [], "pair": [1, ""]},
            {"tags": [], "prices": {}, "unique": ["many"], "pair": [1, ""]},
            {"tags": [], "prices": {}, "unique": [], "pair": [1]},
            {"tags": [], "prices": {}, "unique": [], "pair": [1, "", 2]},
        ],
    ),
    Shape(
        nested,
        {"order": _orders, "others": st.lists(_orders, max_size=2)},
        [
            {"order": {}},
            {"order": {"items": []}},
            {"order": {"items": [{"name": "a"}]}},
            {"order": {"items": [{"name": "a", "price": -1}]}},
            {"order": {"items": [{"name": "a", "price": 1, "size": "huge"}]}},
            {"order": {"items": [{"name": "a", "price": 1}], "to": {"street": "", "x": 1}}},
            {"order": {"items": [{"name": "a", "price": 1}]}, "others": {}},
        ],
    ),
    Shape(
        tagged,
        {
            "pay": _payments,
            "history": st.lists(_payments, max_size=3),
            "tip": st.none() | _cash,
        },
        [
            {"pay": {"kind": "card"}, "history": []},
            {"pay": {"kind": "cheque", "number": ""}, "history": []},
            {"pay": {"number": "1"}, "history": []},
            {"pay": {"kind": "cash", "amount": 1, "coins": "a"}, "history": []},
            {"pay": {"kind": "card", "number": "1"}, "history": [{"kind": "cash"}]},
        ],
    ),
    Shape(
        data,
        {
            "guest": _guests,
            "contact": st.fixed_dictionaries({"phone": _text}, optional={"mail": _text}),
            "point": st.builds(Point, _float, _float),
        },
        [
            {"guest": {}, "contact": {"phone": ""}, "point": [1, 2]},
            {"guest": {"name": ""}, "contact": {"mail": ""}, "point": [1, 2]},
            {"guest": {"name": ""}, "contact": {"phone": ""}, "point": []},
            {"guest": {"name": ""}, "contact": {"phone": ""}, "point": [1, 2, 3]},
            {"guest": {"name": ""}, "contact": {"phone": ""}, "point": {"x": 1}},
        ],
    ),
    Shape(
        times,
        {
            "at": _moments,
            "day": st.dates(),
            "hour": st.times(),
            "length": st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
        },
        [
            {"at": [], "day": "2026-11-01", "hour": "12:00:00"},
            {"at": "2026-11-01T12:00:00Z", "day": "2026-02-30", "hour": "12:00:00"},
            {"at": "2026-11-01T12:00:00Z", "day": True, "hour": "12:00:00"},
            {"at": "2026-11-01T12:00:00Z", "day": "2026-11-01"},
        ],
    ),
    Shape(
        scalars,
        {
            "key": st.uuids(),
            "price": st.decimals(allow_nan=False, allow_infinity=False),
            "content": st.binary(max_size=8),
            "name": _text,
            "other": st.recursive(
                st.none() | st.booleans() | st.integers(-(2**60), 2**60) | _text,
                lambda below: (
                    st.lists(below, max_size=2) | st.dictionaries(_text, below, max_size=2)
                ),
                max_leaves=4,
            ),
        },
        [{"key": "x", "price": "1"}, {"key": str(uuid.UUID(int=1)), "price": ["1"]}],
    ),
    Shape(
        constrained,
        {
            "seats": st.integers(1, 20),
            "code": st.from_regex("^[A-Z]{2}[0-9]{1,4}$", fullmatch=True).map(str.strip),
            "tags": st.lists(st.text(min_size=1, max_size=4), max_size=2),
        },
        [
            {"seats": 0, "code": "AB1"},
            {"seats": 21, "code": "AB1"},
            {"seats": 1, "code": "ab1"},
            {"seats": 1, "code": "AB12345"},
            {"seats": 1, "code": "AB1", "tags": [""]},
            {"seats": 1, "code": "AB1", "tags": ["a", "b", "c"]},
        ],
    ),
    Shape(described, {"item": _items, "guest": _guests}, [{"item": {}, "guest": {"name": ""}}]),
    Shape(
        trees,
        {"tree": _trees, "forest": st.dictionaries(_text, _trees, max_size=2)},
        [{"tree": {}}, {"tree": {"value": 1, "children": [5]}}, {"tree": {"value": "many"}}],
    ),
    Shape(
        chains,
        {"chain": _chains, "row": _rows},
        [{"chain": [], "row": [1]}, {"chain": [1], "row": [1, {}]}, {"chain": [1], "row": {}}],
    ),
    Shape(
        odd_names,
        {
            "discriminator": _int,
            "properties": _text,
            "default": st.booleans(),
            "call_id": _text,
            "required": st.lists(_text, max_size=2),
            "odd": _odd,
        },
        [
            {"discriminator": 1, "properties": "", "default": True, "call_id": "", "required": []},
            {
                "discriminator": 1,
                "properties": "",
                "default": True,
                "call_id": "",
                "required": [],
                "odd": {"$ref": "x", "properties": 1, "required": True},
            },
        ],
    ),
    Shape(
        odd_defaults,
        {
            "options": st.dictionaries(_text, _text, max_size=2),
            "rows": st.lists(st.dictionaries(_text, _text, max_size=2), max_size=2),
        },
        [{"options": {"a": []}}, {"rows": {}}],
    ),
    Shape(renamed, {"camel": st.builds(Camel, _text)}, [{"camel": {"first_name": "x"}}]),
    Shape(nothing, {}),
]
