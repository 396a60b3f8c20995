"""Data subjects: those whose rows can be found and forgotten, as the var `data_subjects` of dbt_project.yml says."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

from granary.sources.validation import NAME
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, project_vars

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyType = Literal["number", "uuid", "email"]
WORDS: Mapping[str, str] = {"number": "a whole number", "uuid": "a UUID", "email": "an e-mail address"}
EXAMPLE = "write data_subjects: {customer: {key: number}}; a key is a number, uuid or email"


@dataclass(frozen=True)
class Subject:
    """A kind of data subject, such as customer or patient, and of what type the key is that tells two apart."""

    name: str
    key: KeyType

    @property
    def rule(self) -> str:
        """What its keys are, in words."""
        return f"the key of data subject {self.name} is {WORDS[self.key]}"

    def fits(self, kind: pa.DataType) -> bool:
        """Return whether a column of this type can hold its keys."""
        if pa.types.is_string(kind):
            return True
        return self.key == "number" and (pa.types.is_integer(kind) or pa.types.is_decimal(kind))


@cache
def declared() -> Mapping[str, Subject]:
    """Return the project's data subjects by name.

    Raises:
        GranaryError: the var is not of the form that it has to be.
    """
    found = project_vars().get("data_subjects") or {}
    if not isinstance(found, dict):
        raise _wrong(f"{found!r} is no mapping of names")
    return {name: _subject(name, options) for name, options in found.items()}


def named(name: str) -> Subject:
    """Return a data subject by name.

    Raises:
        ValueError: there is none of that name.
    """
    known = declared()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, 1)
    advice = f"did you mean {near[0]!r}?" if near else f"the project has {', '.join(known) or 'none'}"
    raise ValueError(f"there is no data subject {name!r} in dbt_project.yml (vars: data_subjects); {advice}")


def _subject(name: object, options: object) -> Subject:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _wrong(f"{name!r} is not lower snake case")
    if not isinstance(options, dict) or set(options) != {"key"} or options["key"] not in get_args(KeyType):
        raise _wrong(f"{name}: {options!r} does not say what its key is")
    return Subject(name, options["key"])


def _wrong(what: str) -> GranaryError:
    return GranaryError(f"vars: data_subjects: {what}", str(PROJECT / "dbt_project.yml"), EXAMPLE)
