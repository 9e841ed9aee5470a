from __future__ import annotations

import pytest

from retell_flask.signatures import verify
from retell_flask.testing import encode, sample, sample_names, sign, sign_plain


def test_samples_are_fresh_each_time() -> None:
    sample("call_ended")["call"].clear()
    assert sample("call_ended")["call"]["call_id"]


def test_an_unknown_sample_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"no sample 'nonsense'. Known: alert_triggered, .*"):
        sample("nonsense")


@pytest.mark.parametrize("name", sample_names())
def test_what_is_encoded_and_signed_verifies(name: str) -> None:
    body = encode(sample(name))
    assert verify(body, sign(body, "k"), "k").scheme == "timestamped"
    assert verify(body, sign_plain(body, "s"), "k", secrets="s").scheme == "plain"


def test_encode_writes_as_javascript_does() -> None:
    assert encode({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()
