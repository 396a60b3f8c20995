"""A small shop: the project in the folder beside this file, made for the tests of the engine."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.sources import discovery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BUSINESS = Path(__file__).parent / "project"
REPOSITORY = BUSINESS.parents[3]
_SOURCES, _broken = discovery.collect("tests.python.support.project.ingestion", [str(BUSINESS / "ingestion")])
assert not _broken, _broken


@contextmanager
def the_shop() -> Iterator[None]:
    """Have the shop's sources be the only ones of this process, and its project that of processes begun from here."""
    everywhere = (discovery._found, discovery._broken)
    before, project = [dict(each) for each in everywhere], os.environ.get("GRANARY_PROJECT")
    os.environ["GRANARY_PROJECT"] = str(BUSINESS)
    _replace(everywhere, (_SOURCES, {}))
    try:
        yield
    finally:
        _replace(everywhere, before)
        os.environ.pop("GRANARY_PROJECT") if project is None else os.environ.__setitem__("GRANARY_PROJECT", project)


def _replace(kept: Iterable[dict[str, Any]], contents: Iterable[dict[str, Any]]) -> None:
    for each, content in zip(kept, contents, strict=True):
        each.clear()
        each.update(content)
