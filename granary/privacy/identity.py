"""Who is meant: a data subject and its key, in the one form that all spellings of the key have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.sources import subjects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.sources.subjects import KeyType, Subject

NUMBER = re.compile(r"\+?0*([0-9]+)(?:\.0*)?")
UUID = re.compile(r"(?:urn:uuid:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?")
EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
IN_TEXT = {
    "number": re.compile(r"(?<![\w.:-])\d+(?![\w.:-])"),
    "uuid": re.compile(r"(?<!\w)(?:[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?!\w)", re.IGNORECASE),
    "email": re.compile(r"""[^\s@;,|"<>()\[\]{}]+@[\w.-]+"""),
}
"""A key that stands by itself in text: no part of an amount, a date or a word."""


@dataclass(frozen=True)
class Identity:
    """One data subject; its key is in canonical form."""

    subject: Subject
    key: str


def canonical(kind: KeyType, value: object) -> str:
    """Return a key as text, however a source wrote it; what is no such key comes back as text without blanks around.

    number: 7, "7", " 007", 7.0 are "7". uuid: lower case, with hyphens. email: case-folded.
    """
    text = str(value).strip()
    if kind == "number":
        whole = NUMBER.fullmatch(text)
        return whole[1] if whole else text
    if kind == "uuid":
        parts = UUID.fullmatch(text.lower())
        return "-".join(parts.groups()) if parts else text
    return text.casefold()


def identity_of(subject: Subject, value: object) -> Identity:
    """Return the identity that a value of a column with this subject's keys is."""
    return Identity(subject, canonical(subject.key, value))


def identify(name: str, key: str) -> Identity:
    """Return the identity that a person means by a data subject's name and a key.

    Raises:
        ValueError: there is no such data subject, or its keys are of another type. The message does not have the key.
    """
    found = identity_of(subjects.named(name), key)
    form = {"number": NUMBER, "uuid": UUID, "email": EMAIL}[found.subject.key]
    if not form.fullmatch(found.key):
        raise ValueError(found.subject.rule)
    return found


def in_text(subject: Subject, text: str) -> Iterator[Identity]:
    """Yield every identity whose key stands by itself in a text that has no structure."""
    for key in IN_TEXT[subject.key].findall(text):
        yield identity_of(subject, key)
        if subject.key == "email":  # where does the address begin in from:ann@example.org, and does it end with a dot?
            local, _, domain = key.rpartition("@")
            for start in (0, *(mark.end() for mark in re.finditer(r"[^\w.+-]", local))):
                yield identity_of(subject, f"{local[start:]}@{domain.rstrip('.-')}")
