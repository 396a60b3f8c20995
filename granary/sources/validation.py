"""What a person writes into a spec, checked against the annotations of its dataclass: mistyped words are refused."""

from __future__ import annotations

import builtins
import codecs
import re
import sys
import types
from collections import abc
from dataclasses import fields
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
"""What sources, tables, columns and data subjects may be called."""
UNKNOWN_KEYWORD = r"(?:\w+\.)*?(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'.*"
LACKING = r"(?:\w+\.)*?(\w+)\.__init__\(\) missing \d+ required .*?arguments?: (.*)"


def check(
    spec: Any, label: str, *, filled: Sequence[str] = (), positive: Sequence[str] = (), natural: Sequence[str] = ()
) -> None:
    """Check the fields of a dataclass against their annotations, and the values of some of them.

    Args:
        spec: the dataclass instance.
        label: what a message calls it, such as "table orders".
        filled: fields that are no empty text, nor have one in them.
        positive: fields that are over zero.
        natural: fields that are zero or over it.

    Raises:
        ValueError: a field has another type than annotated, is none of the words that there are, or out of range.
    """
    for one in fields(spec):
        _check(label, one.name, str(one.type), getattr(spec, one.name), type(spec).__module__, shown=one.repr)
    values = {one.name: getattr(spec, one.name) for one in fields(spec)}
    ranges(values, label, filled=filled, positive=positive, natural=natural)


def arguments(
    function: Callable[..., None], label: str, values: Mapping[str, Any], *, secret: Sequence[str] = ()
) -> None:
    """Check what a function is called with against its annotations; the values of secret ones are not shown.

    Raises:
        ValueError: as in `check`.
    """
    for name, kind in function.__annotations__.items():
        if name in values:
            _check(label, name, str(kind), values[name], function.__module__, shown=name not in secret)


def ranges(
    values: Mapping[str, Any],
    label: str,
    *,
    filled: Sequence[str] = (),
    positive: Sequence[str] = (),
    natural: Sequence[str] = (),
) -> None:
    """Check values that have the right type; see `check`. None is always right.

    Raises:
        ValueError: one is empty, or out of range.
    """
    for name in filled:
        value = values[name]
        if value == "" or (isinstance(value, tuple) and "" in value):
            raise ValueError(f"{label}: {name} {'has an empty text in it' if value else 'is empty'}")
    for name in (*positive, *natural):
        value, over = values[name], name in positive
        if value is not None and not (value > type(value)() or (value == type(value)() and not over)):
            raise ValueError(f"{label}: {name} is {'over 0' if over else '0 or over'} and not {value}")


def codec(label: str, name: str | None) -> None:
    """Check the name of a text's encoding.

    Raises:
        ValueError: Python knows none of this name.
    """
    try:
        if name is None or codecs.lookup(name)._is_text_encoding:
            return
    except (LookupError, ValueError):
        pass
    raise ValueError(f"{label}: encoding is the name of a codec, such as 'utf-8' or 'cp1252', and not {name!r}")


def _check(label: str, name: str, annotation: str, value: Any, module: str, *, shown: bool) -> None:
    try:
        wanted = eval(annotation, {}, _Names(module))  # noqa: S307 - our own annotation
    except (NameError, TypeError, SyntaxError):
        return
    if _fits(value, wanted):
        return
    kinds = _kinds(wanted)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        rule = f"is one of {', '.join(map(str, words))}"
    elif any(get_origin(kind) is tuple for kind in kinds):
        rule = "is a tuple, such as ('a', 'b') or ('a',),"
    else:
        rule = f"is {' or '.join(map(_name, kinds))}"
    raise ValueError(f"{label}: {name} {rule} and not {repr(value) if shown else 'something else'}")  # maybe a secret


class _Names(dict[str, Any]):
    """What the names of a module's annotations mean, also of those that it imports for type checkers only."""

    def __init__(self, module: str) -> None:
        super().__init__(vars(sys.modules[module]))

    def __missing__(self, name: str) -> Any:
        """Look into the modules that are loaded: a value of a class has loaded the class."""
        if hasattr(abc, name) or hasattr(builtins, name):
            return getattr(abc, name, None) or getattr(builtins, name)
        found = {
            id(known): known
            for path, module in list(sys.modules.items())
            if path.startswith(("granary.sources.", "granary.readers.", "granary.warehouse."))
            and (known := vars(module).get(name)) is not None
        }
        if len(found) > 1:
            raise NameError(name)
        return next(iter(found.values()), type(name, (), {}))


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
    if wanted is Any or isinstance(wanted, str):
        return True
    if isinstance(origin, type) and issubclass(origin, abc.Mapping):
        of_key, of_value = get_args(wanted)
        return isinstance(value, origin) and all(_fits(k, of_key) and _fits(v, of_value) for k, v in value.items())
    if wanted is None or wanted is type(None):
        return value is None
    if wanted in (int, float):  # a truth value is not a number, a whole number is one
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    if isinstance(wanted, type):
        if getattr(wanted, "_is_protocol", False):
            return not isinstance(value, type) and all(hasattr(value, name) for name in vars(wanted) if name[0] != "_")
        return isinstance(value, wanted)
    return isinstance(wanted, TypeVar) or origin is None or not isinstance(origin, type) or isinstance(value, origin)


def _name(kind: Any) -> str:
    if isinstance(origin := get_origin(kind), type) and issubclass(origin, abc.Mapping):
        return "a dict of texts" if get_args(kind)[1] is str else "a dict"
    if origin is abc.Callable:
        return "a function"
    return {str: "text", bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}.get(
        kind, getattr(kind, "__name__", str(kind))
    )


def in_words(error: BaseException) -> str:
    """Return what is wrong with a source's module in words; of a mistyped setting with the right one."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SyntaxError):
        return f"it is not Python: {error.msg}"
    mistyped, lacking = re.fullmatch(UNKNOWN_KEYWORD, text), re.fullmatch(LACKING, text)
    if isinstance(error, TypeError) and mistyped:
        kind, word = mistyped.groups()
        known = [
            name
            for path, module in list(sys.modules.items())
            if path.startswith(("granary.", "ingestion.")) and isinstance(found := getattr(module, kind, None), type)
            for name in signature(found).parameters
        ]
        near = get_close_matches(word, known, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(dict.fromkeys(known))}"
        return f"{kind} has no setting {word!r}; {advice}"
    if isinstance(error, TypeError) and lacking:
        return f"{lacking[1]} lacks {lacking[2]}"
    return text if isinstance(error, (ValueError, GranaryError)) else f"{type(error).__name__}: {text}"
