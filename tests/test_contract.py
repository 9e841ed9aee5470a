"""Our models against those of the official SDK, so that its releases show what is new."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from pydantic import BaseModel
from retell.types import ChatResponse, PhoneCallResponse, WebCallResponse

from retell_flask import Call, Chat, parse_event
from retell_flask.models import transcript
from retell_flask.models.transcript import Item
from retell_flask.testing import encode, sample, sample_names


def our_fields(model: type[msgspec.Struct]) -> dict[str, Any]:
    return {f.encode_name: f.type for f in msgspec.structs.fields(model)}


def plain(annotation: Any) -> Any:
    """An annotation of either side in one notation: sets of names, and nested parts."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [plain(argument) for argument in arguments if argument is not type(None)]
        return parts[0] if len(parts) == 1 else frozenset(map(str, parts))
    if origin is Literal:
        return "str"
    if origin in (list, tuple):
        return ("array", plain(arguments[0]))
    if origin is dict:
        return ("object", plain(arguments[1]))
    if annotation in (object, Any):
        return "any"
    return annotation if is_model(annotation) else annotation.__name__


def is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, (BaseModel, msgspec.Struct))


def differences(theirs: type[BaseModel], ours: type[msgspec.Struct], path: str) -> list[str]:
    mine, found = our_fields(ours), []
    for name, field in theirs.model_fields.items():
        where, wanted = f"{path}.{name}", plain(field.annotation)
        if name == "role" and issubclass(ours, Item):
            continue
        if name not in mine:
            found.append(f"{where} is missing")
        elif mine[name] is msgspec.Raw:
            found += item_differences(wanted[1], where)
        else:
            found += type_differences(wanted, plain(mine[name]), where)
    return found


def type_differences(wanted: Any, got: Any, where: str) -> list[str]:
    if wanted == "any":
        return [] if got in ("any", ("object", "any")) else [f"{where} is {got}, not any"]
    if is_model(wanted):
        return differences(wanted, got, where) if is_model(got) else [f"{where} is {got}"]
    if isinstance(wanted, tuple) and isinstance(got, tuple) and wanted[0] == got[0]:
        return type_differences(wanted[1], got[1], where)
    return [] if wanted == got else [f"{where} is {got}, not {wanted}"]


def item_differences(wanted: Any, where: str) -> list[str]:
    found = []
    for model in item_models(wanted):
        roles = get_args(model.model_fields["role"].annotation)
        for role in roles:
            ours = ITEMS.get(role)
            found += (
                differences(model, ours, f"{where}[{role}]")
                if ours
                else [f"{where}: role {role} is missing"]
            )
    return found


ITEMS = {
    model.__struct_config__.tag: model
    for model in get_args(transcript.KnownItem)  # what is decoded, not what is defined
}
_union_members: dict[str, list[type[BaseModel]]] = {}


def item_models(wanted: Any) -> list[type[BaseModel]]:
    return [wanted] if is_model(wanted) else _union_members[str(sorted(wanted))]


def remember_unions(model: type[BaseModel]) -> None:
    """Members of unions of models, by what ``plain`` makes of the union."""
    for field in model.model_fields.values():
        stack = [field.annotation]
        while stack:
            annotation = stack.pop()
            members = [a for a in get_args(annotation) if is_model(a)]
            if len(members) > 1:
                _union_members[str(sorted(map(str, members)))] = members
            stack += get_args(annotation)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(PhoneCallResponse, Call), (WebCallResponse, Call), (ChatResponse, Chat)],
    ids=lambda model: model.__name__,
)
def test_our_models_have_every_field_of_the_sdk_and_its_type(
    theirs: type[BaseModel], ours: type[msgspec.Struct]
) -> None:
    remember_unions(theirs)
    assert len(theirs.model_fields) > 15
    assert differences(theirs, ours, ours.__name__) == []


def test_the_walk_would_find_a_missing_field_and_another_type() -> None:
    class Theirs(BaseModel):
        call_id: int
        brand_new: str | None = None

    assert differences(Theirs, Call, "Call") == [
        "Call.call_id is str, not int",
        "Call.brand_new is missing",
    ]


def test_lazy_fields_have_a_property_of_their_wire_name() -> None:
    for model in (Call, Chat):
        for name, type_ in our_fields(model).items():
            assert type_ is not msgspec.Raw or hasattr(model, name)


SDK_MODELS: dict[str, type[BaseModel]] = {
    "phone_call": PhoneCallResponse,
    "web_call": WebCallResponse,
    "sms_chat": ChatResponse,
}


@pytest.mark.parametrize(
    ("name", "subject"),
    [(name, subject) for name in sample_names() for subject in {"call", "chat"} & {*sample(name)}],
)
def test_samples_validate_against_the_sdk_and_agree_with_our_view(name: str, subject: str) -> None:
    payload = sample(name)[subject]
    payload.setdefault(f"{subject}_status", "ongoing")
    model = SDK_MODELS[payload[f"{subject}_type"]]
    theirs = model.model_validate(payload, strict=False)
    ours = getattr(parse_event(encode({"event": "new", subject: payload})), subject)
    for field in type(theirs).model_fields:
        value = getattr(theirs, field)
        if value is None or isinstance(value, (str, int, float, bool)):
            assert getattr(ours, field) == value, field
