"""What an examination finds: of the warehouse, or of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["problem", "hint"]


@dataclass(frozen=True)
class Finding:
    """What is found, where, how large it is, and the next command. A hint is no reason to fail."""

    what: str
    where: str
    how_large: str
    todo: str
    severity: Severity = "problem"
    bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """All findings, problems first and large ones before small; and what could not be looked at, with the reason."""

    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding], left_out: Iterable[str] = ()) -> Report:
        """Return the findings in order."""
        order = sorted(findings, key=lambda one: (one.severity == "hint", -(one.bytes or 0)))
        return cls(tuple(order), tuple(left_out))

    @property
    def well(self) -> bool:
        """Whether nothing has to be done."""
        return all(one.severity == "hint" for one in self.findings)
