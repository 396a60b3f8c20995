"""What a person writes into a spec, checked against the annotations of its dataclass: mistyped words are refused."""

from __future__ import annotations

import sys
import types
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from re import fullmatch
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from granary.warehouse.errors import GranaryError

UNKNOWN_KEYWORD = r"(?:\w+\.)*?(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'.*"


class Checked:
    """A dataclass whose fields are checked when it is made."""

    def __post_init__(self) -> None:
        """Check the fields; see `check`."""
        check(self, type(self).__name__)


def check(spec: Any, label: str) -> None:
    """Check the fields of a dataclass against their annotations, as far as those can be looked up.

    Args:
        spec: the dataclass instance.
        label: what a message calls it, such as "table orders".

    Raises:
        ValueError: a field has another type than annotated, or is none of the words that there are.
    """
    for field in fields(spec):
        try:
            wanted = eval(str(field.type), vars(sys.modules[type(spec).__module__]))  # noqa: S307 - our own annotation
        except (NameError, TypeError, SyntaxError):
            continue  # imported for type checkers only
        value = getattr(spec, field.name)
        if _fits(value, wanted):
            continue
        words = [word for kind in _kinds(wanted) if get_origin(kind) is Literal for word in get_args(kind)]
        if words:
            rule = f"is one of {', '.join(map(str, words))}"
        elif any(get_origin(kind) is tuple for kind in _kinds(wanted)):
            rule = "is a tuple, such as ('a', 'b') or ('a',),"
        else:
            rule = f"is {' or '.join(map(_name, _kinds(wanted)))}"
        shown = repr(value) if field.repr else "something else"  # what is not shown may be a secret
        raise ValueError(f"{label}: {field.name} {rule} and not {shown}")


def _kinds(wanted: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    return get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)


def _fits(value: Any, wanted: Any) -> bool:  # noqa: PLR0911 - one kind of annotation, one line
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in get_args(wanted))
    if origin is Literal:
        return any(value is word or (type(value) is type(word) and value == word) for word in get_args(wanted))
    if origin is tuple:
        kinds = get_args(wanted)
        if not isinstance(value, tuple):
            return False
        if kinds[-1:] == (...,):
            return all(_fits(part, kinds[0]) for part in value)
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if wanted is Any:
        return True
    if wanted is None or wanted is type(None):
        return value is None
    if wanted in (int, float):  # a truth value is no number, a whole number is one
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    if isinstance(wanted, type):
        return getattr(wanted, "_is_protocol", False) or isinstance(value, wanted)
    return isinstance(wanted, TypeVar) or origin is None or not isinstance(origin, type) or isinstance(value, origin)


def _name(kind: Any) -> str:
    return {str: "text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}.get(
        kind, getattr(kind, "__name__", str(kind))
    )


def in_words(error: BaseException) -> str:
    """Return what is wrong with a source's module in words; of a mistyped setting with the right one."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SyntaxError):
        return f"it is not Python: {error.msg}"
    mistyped = fullmatch(UNKNOWN_KEYWORD, text)
    if isinstance(error, TypeError) and mistyped:
        kind, word = mistyped.groups()
        known = [
            field.name
            for name, module in list(sys.modules.items())
            if name.startswith(("granary.", "ingestion.")) and is_dataclass(found := getattr(module, kind, None))
            for field in fields(found)
        ]
        near = get_close_matches(word, known, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(dict.fromkeys(known))}"
        return f"{kind} has no setting {word!r}; {advice}"
    return text if isinstance(error, (ValueError, GranaryError)) else f"{type(error).__name__}: {text}"
