from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cli.shop import Shop
from faults import AT, FAULTS, HEADER, NOW, SIGNED, Fault
from retell_flask import RetellBlueprint
from retell_flask.signatures import sign, sign_plain
from retell_flask.testing import encode
from support import KEY, SECRET, make_app

MakeShop = Callable[..., Shop]


@pytest.fixture
def body_file(tmp_path: Path) -> Callable[[bytes], str]:
    """Where the body of a delivery was kept."""

    def keep(body: bytes) -> str:
        path = tmp_path / "body.bin"
        path.write_bytes(body)
        return str(path)

    return keep


Keep = Callable[[bytes], str]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_named_with_what_to_do(shop: Shop, body_file: Keep, fault: Fault) -> None:
    arguments = ["verify", "--header", fault.header, "--body-file", body_file(fault.body)]
    arguments += ["--at", AT] if fault.key == KEY else ["--at", AT, "--key", fault.key]
    output = shop.run(*arguments, code=1)
    heading, *advice = output.splitlines()
    assert heading == f"It does not verify ({fault.cause}), and is refused with 401."
    assert len(" ".join(advice)) > 40
    for private in (KEY, fault.key.strip(), HEADER[-64:], "Cómo"):
        assert private not in output


def test_the_undamaged_delivery_verifies_with_a_key_by_its_option(
    make_shop: MakeShop, body_file: Keep
) -> None:
    shop = make_shop(RETELL_API_KEY=["key_new", KEY], RETELL_WEBHOOK_SECRET=["s", SECRET])
    for key, name in [
        (KEY, "key 2 of RETELL_API_KEY"),
        (SECRET, "key 2 of RETELL_WEBHOOK_SECRET"),
    ]:
        header = sign(SIGNED, key, timestamp_ms=NOW - 90_000)
        output = shop.run(
            "verify", "--header", header, "--body-file", body_file(SIGNED), "--at", AT
        )
        assert output == (
            "It verifies.\n"
            f"  Signed with {name}, by Retell's own scheme.\n"
            "  Signed 2023-11-14 22:11:50 UTC, 1m 30s ago.\n"
        )
        assert key not in output


def test_json_has_the_finding_as_values(shop: Shop, body_file: Keep) -> None:
    stored = body_file(SIGNED)
    found = shop.run_json("verify", "--header", HEADER, "--body-file", stored, "--at", AT)
    at = datetime.fromtimestamp(NOW / 1000, timezone.utc).isoformat()
    assert found == {
        "verifies": True,
        "cause": "verified",
        "message": "It verifies, with key 1 and the timestamped scheme.",
        "key": "key 1 of RETELL_API_KEY",
        "scheme": "timestamped",
        "signed_at": at,
        "judged_at": at,
        "refused_with": None,
        "refused_because": None,
    }


def test_a_capture_is_stale_and_the_time_for_it_is_offered(shop: Shop, body_file: Keep) -> None:
    arguments = ["verify", "--header", HEADER, "--body-file", body_file(SIGNED)]
    output = shop.run(*arguments, code=1)
    assert "is refused with 401" in output
    assert "Signed with key 1 of RETELL_API_KEY" in output
    at = output.partition("--at ")[2].split()[0]
    assert shop.run(*arguments, "--at", at).startswith("It verifies.")


def test_the_whole_line_is_taken_and_the_body_from_standard_input(shop: Shop) -> None:
    line = f"x-retell-signature: {HEADER}\r\n"
    arguments = ["verify", "--header", line, "--body-file", "-", "--at", AT]
    assert shop.run(*arguments, input=SIGNED).startswith("It verifies.")
    assert "(newline)" in shop.run(*arguments, input=SIGNED + b"\r\n", code=1)


def test_keys_are_taken_as_they_are_given(shop: Shop, body_file: Keep) -> None:
    header = sign(SIGNED, " odd\n", timestamp_ms=NOW)
    arguments = ["verify", "--header", header, "--body-file", body_file(SIGNED), "--at", AT]
    assert "wrong_key" in shop.run(*arguments, "--key", "another", code=1)
    output = shop.run(*arguments, "--key", KEY, "--key", " odd\n")
    assert "Signed with key 2 of --key" in output
    assert "odd" not in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--body-file", "-"],
        ["--header", HEADER],
        ["--header", HEADER, "--body-file", "nowhere.bin"],
        ["--header", HEADER, "--body-file", "-", "--key", ""],
        ["--header", HEADER, "--body-file", "-", "--at", "noon"],
    ],
)
def test_a_wrong_use_is_exit_code_2(shop: Shop, arguments: list[str]) -> None:
    assert "Usage: " in shop.run("verify", *arguments, code=2)


EVENT = encode({"event": "call_ended", "call": {"call_id": "c"}})
INBOUND = encode({"event": "call_inbound", "call_inbound": {"from_number": "+14155550142"}})
OWN_ONLY = {"RETELL_SIGNATURE_SCHEMES": "timestamped"}


def signed_by(key: str, *, seconds_ago: int = 0) -> Callable[[bytes], str]:
    return lambda body: sign(
        body, key, timestamp_ms=time.time_ns() // 1_000_000 - seconds_ago * 1000
    )


def plainly(body: bytes) -> str:
    return sign_plain(body, SECRET)


@pytest.mark.parametrize(
    ("body", "make_header", "options", "status", "words"),
    [
        (EVENT, signed_by(KEY), {}, 200, "Retell's own scheme"),
        (EVENT, signed_by(KEY), {"RETELL_SIGNATURE_SCHEMES": "plain"}, 401, "(scheme_refused)"),
        (EVENT, signed_by(KEY, seconds_ago=60), {"RETELL_SIGNATURE_TOLERANCE": 30}, 401, "30.0 s"),
        (EVENT, signed_by(KEY, seconds_ago=900), {"RETELL_SIGNATURE_TOLERANCE": 999}, 200, "15m"),
        (EVENT, plainly, {}, 200, "key 1 of RETELL_WEBHOOK_SECRET, by the plain scheme"),
        (EVENT, plainly, OWN_ONLY, 401, "(scheme_refused)"),
        (INBOUND, signed_by(KEY), {}, 200, "Retell's own scheme"),
        (INBOUND, plainly, {}, 401, "(scheme_refused)"),
        (EVENT + b"1", plainly, {}, 401, "(disguised)"),
        (b'{"event":"call_ended"}', signed_by(KEY), {}, 400, "call_ended needs a 'call' object"),
        (b"\xff", signed_by(KEY), {}, 400, "The body is not JSON."),
        (EVENT, signed_by(KEY), {"RETELL_MAX_BODY": 10}, 413, "RETELL_MAX_BODY"),
        (EVENT, signed_by("another"), {"RETELL_MAX_BODY": 10}, 413, "(wrong_key)"),
    ],
)
def test_it_agrees_with_what_the_application_answers(
    make_shop: MakeShop,
    body: bytes,
    make_header: Callable[[bytes], str],
    options: dict[str, Any],
    status: int,
    words: str,
) -> None:
    shop, header = make_shop(RETELL_WEBHOOK_SECRET=SECRET, **options), make_header(body)
    answer = shop.client.post(body, header=header)
    assert answer.status_code == status
    arguments = ["verify", "--header", header, "--body-file", "-"]
    fails = status == 401 or words == "(wrong_key)"
    output = shop.run(*arguments, code=int(fails), input=body)
    assert output.startswith("It does not verify" if fails else "It verifies.")
    assert (f"refused with {status}" in output) == (status != 200)
    assert words in output
    assert "+1415" not in output


def test_functions_take_no_plain_signature(make_shop: MakeShop) -> None:
    shop = make_shop(RETELL_WEBHOOK_SECRET=SECRET)
    shop.blueprint.function("book")(lambda: "booked")
    body = encode({"name": "book", "args": {}, "call": {"call_id": "c"}})
    for header, status in ((plainly(body), 401), (sign(body, KEY), 200)):
        answer = shop.client.post(body, "/functions/book", header=header)
        assert answer.status_code == status
        arguments = ["verify", "--header", header, "--body-file", "-"]
        output = shop.run(*arguments, code=int(status == 401), input=body)
        assert ("scheme_refused" in output) == (status == 401)
        assert "refused with 400" not in output


def test_options_go_by_the_prefix_of_the_blueprint(body_file: Keep) -> None:
    blueprint = RetellBlueprint("sales", config_prefix="SALES")
    app: Flask = make_app(blueprint, SALES_API_KEY=KEY, SALES_INBOX_URL="none")
    arguments = ["retell", "verify", "--body-file", body_file(SIGNED), "--header"]
    run = app.test_cli_runner().invoke
    assert "key 1 of SALES_API_KEY" in run(args=[*arguments, HEADER]).output
    plain = run(args=[*arguments, sign_plain(SIGNED, KEY)]).output
    assert "SALES_WEBHOOK_SECRET" in plain
    assert "RETELL_" not in plain
