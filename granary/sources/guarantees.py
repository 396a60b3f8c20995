"""What a kind of source guarantees: said beside the code that keeps it, listed by `granary sources`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guarantees:
    """One kind of source, and what holds for every source of it.

    `declared` is what a module of `ingestion/` writes and `command` what reads it. `exactly_once`, `deletes`, `order`
    and `lag` each begin with "yes", "no" or "in part", and say under which condition. `page` is its guide, a name in
    docs/engine/sources without `.md`; `proofs` are the kinds of `make chaos` that try `exactly_once`.
    """

    kind: str
    declared: str
    command: str
    exactly_once: str
    deletes: str
    order: str
    lag: str
    page: str
    proofs: tuple[str, ...] = ()
