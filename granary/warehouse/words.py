"""Numbers with what they count, in words."""

from __future__ import annotations

from dataclasses import dataclass

HISSING = ("s", "x", "ch", "sh")
"""Ends of nouns whose plural has one more syllable."""


@dataclass(frozen=True)
class Amount:
    """A number as it is shown, which a format spec gives a noun: `{value:row}` is "1 row" or "2 rows"."""

    shown: str

    def __format__(self, noun: str) -> str:
        """Return the number with its noun, in the plural but for 1; without a noun the number alone."""
        ending = "" if not noun or self.shown == "1" else "es" if noun.endswith(HISSING) else "s"
        return f"{self.shown} {noun}{ending}".strip()


def plural(number: float, noun: str) -> str:
    """Return a number with what it counts: "1 row", "2,000 rows", "0 batches"."""
    return format(Amount(f"{number:,}"), noun)
