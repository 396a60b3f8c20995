"""Signatures of webhooks: HMAC-SHA256 over the time, the idempotency key if there is one, and the body.

    Granary-Signature: t=1700000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd

The signed text is `t`, a full stop, the Idempotency-Key and a full stop (only if there is a key), and the body as sent.
The key is signed so that nobody can send an event again under another one. Several `v1` may be given, and the receiver
may know several secrets: so secrets are changed without a pause.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = "Granary-Signature"
TOLERANCE_SECONDS = 300
"""How far the sender's clock may be off; a request that somebody recorded is worth nothing after that."""

SECRET_BYTES = 16
MAX_SIGNATURES = 10
KEY = re.compile(r"[A-Za-z0-9._:\-]{1,200}")


class NotSignedError(Exception):
    """A request is not from who knows the secret; the message says why, without a hint at the right signature."""


def sign(secret: str, at: int, body: bytes, key: str | None = None) -> str:
    """Return the header's value for a body sent at `at` (seconds since 1970)."""
    return f"t={at},v1={_digest(secret, at, body, key)}"


def verify(secrets: Sequence[str], header: str | None, body: bytes, now: float, key: str | None = None) -> None:
    """Check a signature in constant time.

    Raises:
        NotSignedError: it is missing, malformed, too old or too new, or made with another secret.
    """
    if not header:
        raise NotSignedError(f"the header {HEADER} is missing")
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"][:MAX_SIGNATURES]
    if len(times) != 1 or not re.fullmatch(r"\d{1,12}", times[0]) or not given:
        raise NotSignedError(f"the header {HEADER} is not of the form t=<seconds>,v1=<hex>")
    at = int(times[0])
    if abs(now - at) > TOLERANCE_SECONDS:
        raise NotSignedError(f"the signature's time is more than {TOLERANCE_SECONDS} s away from ours")
    good = False
    for secret in secrets:
        expected = _digest(secret, at, body, key).encode()
        for one in given:
            good |= hmac.compare_digest(expected, one.encode("utf-8", "replace"))
    if not good:
        raise NotSignedError("the signature is of another secret or another body")


def verify_token(secrets: Sequence[str], header: str) -> None:
    """Check a token (RFC 6750), which is one of the secrets itself, in constant time.

    Raises:
        NotSignedError: it is malformed, or none of them.
    """
    kind, _, token = header.partition(" ")
    given, good = token.strip().encode("utf-8", "replace"), False
    for secret in secrets:
        good |= hmac.compare_digest(secret.encode(), given)
    if kind.lower() != "bearer" or not good:
        raise NotSignedError("the header Authorization is not Bearer and a secret of this source")


def secrets_of(text: str, name: str) -> tuple[str, ...]:
    """Return the secrets that the setting `name` holds, separated by commas.

    Raises:
        GranaryError: there is none, or one can be guessed.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or any(len(secret.encode()) < SECRET_BYTES for secret in found):
        raise GranaryError(
            f"{name} has a secret of less than {SECRET_BYTES} bytes", todo="make one with `openssl rand -hex 32`"
        )
    return found


def _digest(secret: str, at: int, body: bytes, key: str | None) -> str:
    text = f"{at}.{key}.".encode() if key is not None else f"{at}.".encode()
    return hmac.new(secret.encode(), text + body, hashlib.sha256).hexdigest()
