"""``RETELL_API_URL``, ``RETELL_API_TIMEOUT`` and ``RETELL_INBOUND_TIMEOUT``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from retell_flask import ConfigurationError, RetellClient
from retell_flask.settings import Settings, read_settings

TIMEOUTS = ["API_TIMEOUT", "INBOUND_TIMEOUT"]
SECRET = "key_in_the_wrong_place"


def read(environ: dict[str, str] | None = None, **options: Any) -> Settings:
    config = {f"RETELL_{name}": value for name, value in options.items()}
    return read_settings(config, environ={"RETELL_API_KEY": "k", **(environ or {})})


def refusal(name: str, value: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_defaults() -> None:
    settings = read()
    assert settings.api_url is None
    assert settings.api_timeout == timedelta(seconds=30)
    assert settings.inbound_timeout == timedelta(seconds=8)


URLS = [
    ("https://api.retellai.com", "https://api.retellai.com"),
    ("https://api.retellai.com/", "https://api.retellai.com"),
    (" https://api.retellai.com//\n", "https://api.retellai.com"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("http://[::1]:8080/", "http://[::1]:8080"),
    ("http://localhost", "http://localhost"),
    ("https://proxy.example/retell/api/", "https://proxy.example/retell/api"),
    ("HTTPS://API.retellai.com", "HTTPS://API.retellai.com"),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ("https://bücher.example", "https://bücher.example"),
]


@pytest.mark.parametrize(("value", "url"), URLS)
def test_addresses(value: str, url: str) -> None:
    assert read(API_URL=value).api_url == url
    assert read({"RETELL_API_URL": value}).api_url == url


NO_URLS = [
    *("api.retellai.com", "//api.retellai.com", "/v2", "https://", "https:///v2", "nowhere"),
    *("ftp://api.retellai.com", "file:///etc/passwd", "sqlite://", "https:api.retellai.com"),
    *("https://host:0", "https://host:99999", "https://host:port", "https://[::1"),
    *("https://user:password@host", "https://key@host", "https://@host", "https://host\\@other"),
    *(
        "https://host?a=b",
        "https://host/#a",
        "https://host/?",
        "https://ho st",
        "https://host/a b",
    ),
    *("https://host/a\nb", "http://", "https://:443"),
    *(7, True, [], b"https://host", object(), ("https://host",)),
]


@pytest.mark.parametrize("value", NO_URLS)
def test_what_is_no_address(value: Any) -> None:
    assert refusal("API_URL", value).startswith("RETELL_API_URL takes an address such as 'http")


@pytest.mark.parametrize("url", [f"https://{SECRET}@host", f"https://host?{SECRET}", SECRET])
def test_a_refused_address_is_not_shown(url: str) -> None:
    assert SECRET not in refusal("API_URL", url)


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5), (0.25, 0.25), ("10", 10), ("250ms", 0.25), (" 0.1m ", 6), (timedelta(seconds=9), 9)],
)
def test_timeouts(name: str, value: Any, seconds: float) -> None:
    assert getattr(read(**{name: value}), name.lower()) == timedelta(seconds=seconds)
    if isinstance(value, str):
        settings = read({f"RETELL_{name}": value})
        assert getattr(settings, name.lower()) == timedelta(seconds=seconds)


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize(
    "value",
    [0, -1, "0", "0s", "-1s", "1e-7", 1e-9, "soon", "5 s 3", "٥", True, [], {}]
    + [float("nan"), float("inf"), 10**20, timedelta(0), timedelta(seconds=-1), SECRET],
)
def test_what_is_no_timeout(name: str, value: Any) -> None:
    message = refusal(name, value)
    assert message.startswith(f"RETELL_{name} takes a duration above zero")
    assert SECRET not in message


@pytest.mark.parametrize("value", [10.1, "11s", "1m", "30d", timedelta(seconds=10.001)])
def test_retell_waits_ten_seconds_for_an_answer(value: Any) -> None:
    assert refusal("INBOUND_TIMEOUT", value).startswith("RETELL_INBOUND_TIMEOUT takes a duration")
    assert read(API_TIMEOUT=value).api_timeout > timedelta(seconds=10)


@pytest.mark.parametrize("value", ["nowhere", "", None, 7, f"https://{SECRET}@host"])
def test_a_client_takes_the_same_addresses(value: Any) -> None:
    with pytest.raises(ValueError, match="address such as") as caught:
        RetellClient("key", url=value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("options", [{"url": "nowhere"}, {"timeout": 0}, {"api_key": ""}])
def test_a_client_says_which_argument_is_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} (takes|has) "):
        RetellClient(**{"api_key": "key", **options})


def test_another_prefix_changes_the_names() -> None:
    config = {"SALES_API_KEY": "k", "SALES_API_URL": "http://sales/", "RETELL_API_URL": "nowhere"}
    settings = read_settings(config, "SALES", {"SALES_API_TIMEOUT": "5s"})
    assert (settings.api_url, settings.api_timeout) == ("http://sales", timedelta(seconds=5))


@pytest.mark.parametrize("name", ["RETELL_API_URLS", "RETELL_API_TIMOUT", "retell_api_url"])
def test_a_misspelt_option_is_told(name: str) -> None:
    with pytest.warns(RuntimeWarning, match=rf"{name} is no option .* RETELL_API_(URL|TIMEOUT)\?"):
        read_settings({"RETELL_API_KEY": "k", name: "http://host"}, environ={})
