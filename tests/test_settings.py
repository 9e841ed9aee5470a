from __future__ import annotations

import warnings
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import URL

from retell_flask import ConfigurationError
from retell_flask.settings import DEFAULT_API_URL, OPTIONS, Option, Settings, read_settings
from retell_flask.values import Place


def read(environ: dict[str, str] | None = None, **options: Any) -> Settings:
    config = {f"RETELL_{name}": value for name, value in options.items()}
    return read_settings(config, environ={"RETELL_API_KEY": "k", **(environ or {})})


def test_every_option_is_a_field_of_the_settings() -> None:
    assert [option.name.lower() for option in OPTIONS] == [
        field.name for field in fields(Settings)
    ]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_default_that_is_shown_is_the_default(option: Option) -> None:
    if option.name in ("INBOX_URL", "DISPATCH"):
        assert (
            option.shown == {"INBOX_URL": Place.INSTANCE.value, "DISPATCH": "threads"}[option.name]
        )
    elif option.name == "API_URL":
        assert option.shown == DEFAULT_API_URL
    elif option.shown == "none":
        assert not option.default
    else:
        assert option.parse(option.shown) == option.default


def test_defaults() -> None:
    settings = read()
    assert settings.api_key == (b"k",)
    assert settings.webhook_secret == ()
    assert settings.signature_schemes == ("timestamped", "plain")
    assert settings.tolerance_ms == 300_000
    assert settings.max_body == 32 * 1024 * 1024
    assert (settings.inbox_url, settings.dispatch) == (Place.INSTANCE, None)
    assert (settings.workers, settings.max_attempts, settings.transcripts) == (4, 8, "latest")
    assert (settings.lease, settings.order_wait) == (timedelta(seconds=60), timedelta(seconds=30))
    assert (settings.retention, settings.sqlite_synchronous) == (timedelta(days=30), "FULL")


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        read().max_body = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("a", [b"a"]),
        (" a , b\n", [b"a", b"b"]),
        (["a", " b "], [b"a", b"b"]),
        (("a",), [b"a"]),
        (b"a", [b"a"]),
        ("clé", ["clé".encode()]),
    ],
)
def test_keys_are_one_or_many_and_stripped(value: Any, keys: list[bytes]) -> None:
    assert list(read(API_KEY=value).api_key) == keys


@pytest.mark.parametrize(("value", "keys"), [("a,b", [b"a", b"b"]), (" a ", [b"a"])])
def test_keys_come_from_the_environment_the_same_way(value: str, keys: list[bytes]) -> None:
    assert list(read({"RETELL_API_KEY": value}).api_key) == keys


@pytest.mark.parametrize(
    "value", ["", "  ", ",", "a,", "a,,b", [], [""], ["", "good"], ["a", " "]]
)
def test_row_2_an_empty_key_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^RETELL_API_KEY (has an empty|takes a) key"):
        read(API_KEY=value)


@pytest.mark.parametrize("value", ['"k"', "'k'", "a,'b'"])
def test_a_key_in_quotation_marks_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="RETELL_API_KEY has a key in quotation marks"):
        read(API_KEY=value)


@pytest.mark.parametrize("value", [5, True, {"a": 1}, ["a", 5], object(), "\ud800"])
def test_what_is_no_key_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^RETELL_WEBHOOK_SECRET (takes|has)"):
        read(WEBHOOK_SECRET=value)


@pytest.mark.parametrize("config", [{}, {"RETELL_API_KEY": None}])
@pytest.mark.parametrize("environ", [{}, {"RETELL_API_KEY": ""}])
def test_no_key_is_an_error_that_says_where_to_find_it(config: Any, environ: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"RETELL_API_KEY is not set.*webhook badge"):
        read_settings(config, environ=environ)


def test_a_secret_alone_will_do() -> None:
    assert read({"RETELL_API_KEY": ""}, WEBHOOK_SECRET="s").webhook_secret == (b"s",)


def test_the_config_wins_over_the_environment_and_none_does_not() -> None:
    environ = {"RETELL_MAX_BODY": "5"}
    assert read(environ).max_body == 5
    assert read(environ, MAX_BODY=6).max_body == 6
    assert read(environ, MAX_BODY=None).max_body == 5
    assert read({"RETELL_MAX_BODY": ""}).max_body == 32 * 1024 * 1024


def test_another_prefix_changes_every_name() -> None:
    settings = read_settings({"SALES_API_KEY": "s"}, "SALES", {"SALES_MAX_BODY": "7"})
    assert (settings.api_key, settings.max_body) == ((b"s",), 7)
    with pytest.raises(ConfigurationError, match=r"^SALES_DISPATCH "):
        read_settings({"SALES_API_KEY": "s", "SALES_DISPATCH": "x"}, "SALES", {})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), (" 15 m ", 900), ("24h", 86_400)]
    + [("30d", 2_592_000), ("250ms", 0.25), ("1.5s", 1.5), (timedelta(minutes=1), 60)],
)
def test_durations(value: Any, seconds: float) -> None:
    assert read(SIGNATURE_TOLERANCE=value).signature_tolerance == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [0, -1, "0s", "-5s", "soon", "5 weeks", "٥s", True, [], float("nan"), float("inf"), 10**20]
    + ["9" * 400, 10**400, timedelta(0)],
)
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^RETELL_SIGNATURE_TOLERANCE takes a duration .*'90s'"
    ):
        read(SIGNATURE_TOLERANCE=value)


@pytest.mark.parametrize("value", [0, -1, "ten", "1e6", 1.5, True, "٥", "9" * 400])
def test_what_is_no_size(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^RETELL_MAX_BODY takes a number of bytes"):
        read(MAX_BODY=value)


@pytest.mark.parametrize(
    ("value", "schemes"),
    [
        ("timestamped", ["timestamped"]),
        ("plain, timestamped", ["plain", "timestamped"]),
        (["timestamped"], ["timestamped"]),
    ],
)
def test_schemes(value: Any, schemes: list[str]) -> None:
    assert list(read(SIGNATURE_SCHEMES=value).signature_schemes) == schemes


@pytest.mark.parametrize("value", ["", "hmac", "timestamped,", [], 5, ["plain", None]])
def test_what_are_no_schemes(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^RETELL_SIGNATURE_SCHEMES takes"):
        read(SIGNATURE_SCHEMES=value)


def test_plain_alone_needs_a_secret() -> None:
    with pytest.raises(ConfigurationError, match="RETELL_WEBHOOK_SECRET, and that is not set"):
        read(SIGNATURE_SCHEMES="plain")
    assert read(SIGNATURE_SCHEMES="plain", WEBHOOK_SECRET="s").signature_schemes == ("plain",)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("DISPATCH", "rabbits"),
        ("CELERY_QUEUE", ""),
        ("CELERY_QUEUE", "a\nb"),
        ("DISPATCH", 5),
        ("WORKERS", -1),
        ("WORKERS", True),
        ("MAX_ATTEMPTS", 0),
        ("LEASE", 0),
        ("LEASE", "10ms"),
        ("WORKERS", 10**30),
        ("INBOX_URL", "postgresql://u:half@password@host/db"),
        ("ORDER_WAIT", -1),
        ("SQLITE_SYNCHRONOUS", "OFF"),
        ("TRANSCRIPTS", "none"),
        ("INBOX_URL", "mysql://host/db"),
        ("INBOX_URL", "postgresql+asyncpg://host/db"),
        ("INBOX_URL", "no url"),
        ("INBOX_URL", 5),
    ],
)
def test_what_cannot_work_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^RETELL_{option} (takes|has)"):
        read(**{option: value})


@pytest.mark.parametrize("value", ["", "none"])
def test_no_inbox_can_be_said(value: str) -> None:
    assert read(INBOX_URL=value).inbox_url is Place.NONE
    assert read(INBOX_URL=value, DISPATCH="inline").dispatch == "inline"
    with pytest.raises(ConfigurationError, match=r"^RETELL_DISPATCH is 'threads', which needs an"):
        read(INBOX_URL=value, DISPATCH="threads")


def test_an_empty_inbox_url_in_the_environment_is_not_set() -> None:
    assert read({"RETELL_INBOX_URL": ""}).inbox_url is Place.INSTANCE


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_means_psycopg_3(scheme: str) -> None:
    url = read(INBOX_URL=f"{scheme}://me:{SECRET}@host/db").inbox_url
    assert isinstance(url, URL)
    assert url.drivername == "postgresql+psycopg"


def test_order_wait_may_be_never() -> None:
    assert read(ORDER_WAIT=0).order_wait == timedelta(0)


SECRET = "key_that_nobody_may_see"


def test_no_repr_shows_a_key() -> None:
    url = f"postgresql://me:{SECRET}@host/db"
    settings = read(API_KEY=SECRET, WEBHOOK_SECRET=SECRET, INBOX_URL=url)
    (key,) = settings.api_key
    for shown in (repr(settings), str(key), f"{key}", f"{key!r:>9}", "%s" % key, str([key])):
        assert SECRET not in shown


@pytest.mark.parametrize("option", [option.name for option in OPTIONS])
def test_no_error_shows_the_value(option: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{option: [SECRET, object()]})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["RETELL_APIKEY", "RETELL_API_KEYS", "retell_api_key"])
def test_a_misspelt_option_is_warned_about(name: str) -> None:
    with (
        pytest.warns(RuntimeWarning, match=f"{name} is no option.*meant to be RETELL_API_KEY"),
        pytest.raises(ConfigurationError),
    ):
        read_settings({name: SECRET}, environ={})


def test_names_of_the_hosts_own_are_not() -> None:
    environ = {"RETELL_API_KEY": "k", "RETELL_AGENT_ID": "a", "RETELL_FROM_NUMBER": "+1"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_settings({"APIKEY": "x"}, environ=environ)
