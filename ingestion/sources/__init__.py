"""The systems that Granary reads: one module each, which names its tables, keys, cursors and contracts."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingestion.spec import Source


def _sources() -> Iterator[Source]:
    """Yield the SOURCE of each module in this folder, in order of the modules' names."""
    for module in sorted(iter_modules(__path__), key=lambda module: module.name):
        source: Source = import_module(f"{__name__}.{module.name}").SOURCE
        if source.name != module.name:
            raise ValueError(f"source {source.name!r} has to be in {source.name}.py, and not in {module.name}.py")
        yield source


SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in _sources()})
