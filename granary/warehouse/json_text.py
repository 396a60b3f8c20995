"""JSON, strictly: one decoder and one encoder for every way in, so that what one refuses, no other takes.

RFC 8259 leaves open what doubled names, halves of characters and very large numbers mean, and parsers differ. Here they
come out as a `Flaw`, which no column takes: so the row that holds one is refused, and no other. Numbers keep every
digit. What is written can be read by everybody, `jsonb` included.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from math import isinf
from typing import Any

import orjson

MAX_DEPTH = 64
"""Levels of objects and lists that a document may have."""
MAX_DIGITS = 1_000
"""Characters of a number: Postgres keeps 16,383 behind the point, and no system of records writes as many as this."""
WORD = 18
"""Digits of a whole number that surely has 64 bits."""
PLAIN = 40
"""Places before or behind the point up to which a number is written without an exponent."""
BLANK = " \t\r\n"
SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)|[\ud800-\udfff]")
UNHEARD = re.compile("[\ud800-\udfff\0]")


TWICE, BOTH, DEEPER = "names the field", "is there twice", "is nested deeper than"
BEYOND, NO_NUMBER = "holds a number beyond those that a double can hold", "which is not a JSON number"
HALF, NO_TEXT = "holds half of a surrogate pair", "holds text that is not UTF-8"
"""Why a row is refused of which one cannot say what it holds: nobody but a person can give the value."""


class NotJsonError(ValueError):
    """A text is not JSON; the message says why, in a clause about it."""


@dataclass(frozen=True)
class Flaw:
    """Stands for a part that is JSON and yet means nothing: why (a clause about the row), and what it was."""

    reason: str
    shown: Any


def decode(text: str | bytes) -> Any:
    """Return a JSON document's value.

    Returns:
        None, bool, str, list, dict, int (up to 18 digits) or Decimal (other numbers, exactly as written), and a `Flaw`
        in place of each part without a meaning: an object that names a field twice, NaN and Infinity, a number that a
        double cannot hold at all, text that is not Unicode, and what is nested deeper than 64 levels.

    Raises:
        NotJsonError: it is not JSON. Two documents in a row are none.
    """
    if isinstance(text, bytes):
        text = text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    try:
        value, end = decode_at(text, _first(text, 0))
    except json.JSONDecodeError as error:
        raise NotJsonError(f"is not JSON: {error.msg}") from None
    if _first(text, end) < len(text):
        raise NotJsonError("is not JSON: Extra data")
    return value


def decode_at(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins at a place of a text, and the place behind it; see `decode`.

    Raises:
        json.JSONDecodeError: there is none, or the text ends within it.
        NotJsonError: it is nested so deep that it cannot be parsed.
    """
    try:
        value, end = _decoder.raw_decode(text, at)
    except RecursionError:
        raise NotJsonError(f"{DEEPER} {MAX_DEPTH} levels") from None
    plain = text.isascii() and text.find("\\u", at, end) < 0
    unheard = None if plain or not SUSPECT.search(text, at, end) else UNHEARD
    if unheard is None and text.count("{", at, end) + text.count("[", at, end) <= MAX_DEPTH:
        return value, end  # nothing can be nested too deep in it
    return _bounded(value, unheard), end


def _first(text: str, at: int) -> int:
    """Return the place of the next character that is not blank."""
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at


def _bounded(value: Any, unheard: re.Pattern[str] | None) -> Any:
    """Return a value with flaws in place of what is nested too deep and, if it may hold some, of broken text."""
    top = [value]
    level: list[Any] = [top]
    for depth in range(MAX_DEPTH + 1):
        deeper = []
        for part in level:
            for key, inner in part.items() if type(part) is dict else enumerate(part):
                kind = type(inner)
                if kind is list or kind is dict:
                    if depth == MAX_DEPTH:
                        part[key] = Flaw(f"{DEEPER} {MAX_DEPTH} levels", "…")
                    elif unheard and kind is dict and (flaw := next(filter(None, map(_broken, inner)), None)):
                        part[key] = Flaw(flaw.reason, {_escaped(name): value for name, value in inner.items()})
                    else:
                        deeper.append(inner)
                elif unheard and kind is str and (flaw := _broken(inner)):
                    part[key] = flaw
        level = deeper
        if not level:
            break
    return top[0]


def _broken(text: str) -> Flaw | None:
    """Return what is wrong with a text, if Postgres cannot hold it."""
    found = UNHEARD.search(text)
    if not found:
        return None
    letter = found[0]
    why = "holds a NUL character" if letter == "\0" else HALF
    if "\udc80" <= letter <= "\udcff":  # how the decoder hands on a byte that is none
        why = NO_TEXT
    return Flaw(why, _escaped(text))


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Flaw:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    every: dict[str, list[Any]] = {}
    for name, value in pairs:
        every.setdefault(name, []).append(value)
    twice = next(name for name, values in every.items() if len(values) > 1)
    together = {name: values if len(values) > 1 else values[0] for name, values in every.items()}
    return Flaw(f"{TWICE} {twice[:80]!r} twice", together)


def _whole(digits: str) -> int | Decimal | Flaw:
    return int(digits) if len(digits) <= WORD and digits != "-0" else _number(digits)


def _number(digits: str) -> Decimal | Flaw:
    near = float(digits)
    if len(digits) > MAX_DIGITS or isinf(near) or (near == 0 and digits.lower().partition("e")[0].strip("-0.")):
        shown = digits if len(digits) <= MAX_DIGITS else f"{digits[:MAX_DIGITS]}…"
        return Flaw(BEYOND, shown)
    return Decimal(digits)


def _constant(name: str) -> Flaw:
    return Flaw(f"holds {name}, {NO_NUMBER}", name)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_number, parse_constant=_constant)


def encode(value: Any) -> str:
    """Return a decoded value as compact JSON text, with the digits that its numbers came with.

    Raises:
        TypeError: it holds a flaw, or anything else that `decode` does not return.
    """
    return orjson.dumps(value, default=_fragment, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()


def written(value: Any) -> str:
    """Return any nested value as JSON text; what JSON lacks (dates, decimals, bytes) is written as text.

    Raises:
        ValueError: it holds a number that is not finite, a NUL character or half of a surrogate pair.
    """
    text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    text.encode()
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise ValueError("holds a NUL character")
    return text


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(digits(value))
    raise TypeError(flaw_in(value) or f"{type(value).__name__} is not a JSON value")


def digits(number: int | Decimal) -> str:
    """Return a number as JSON writes it: every digit, and an exponent only where there would be many zeros."""
    if isinstance(number, int) or abs(number.adjusted()) > PLAIN:
        return str(number)
    return f"{number:f}"


def is_flaw(reason: str) -> bool:
    """Return whether a row was refused for a flaw: what is shown of it is then not what it means."""
    return reason.startswith((TWICE, BEYOND, DEEPER, HALF, NO_TEXT, BOTH)) or reason.endswith(NO_NUMBER)


def shown(value: Any) -> Any:
    """Return a decoded value with what stands behind its flaws, for people to look at."""
    if isinstance(value, Flaw):
        return shown(value.shown)
    if isinstance(value, dict):
        return {name: shown(part) for name, part in value.items()}
    if isinstance(value, str):
        return _escaped(value)
    return list(map(shown, value)) if isinstance(value, list) else value


def flaw_in(value: Any) -> str | None:
    """Return the reason of the first flaw in a value, None without one."""
    level = [value]
    while level:
        for part in level:
            if isinstance(part, Flaw):
                return part.reason
        level = [
            inner
            for part in level
            if isinstance(part, (dict, list))
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return None
