"""Signing and verifying webhook bodies, and why a signature fails. Knows nothing of Flask."""

from __future__ import annotations

from .explanation import Explanation, explain
from .schemes import (
    HEADER,
    OWN_SCHEME,
    SCHEMES,
    TOLERANCE_MS,
    Scheme,
    SignatureClaim,
    Verified,
    as_keys,
    read_header,
    sign,
    sign_plain,
    verify,
)

__all__ = [
    "HEADER",
    "OWN_SCHEME",
    "SCHEMES",
    "TOLERANCE_MS",
    "Explanation",
    "Scheme",
    "SignatureClaim",
    "Verified",
    "as_keys",
    "explain",
    "read_header",
    "sign",
    "sign_plain",
    "verify",
]
