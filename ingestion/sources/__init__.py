"""The systems that Granary reads: one module each, which names its tables, keys, cursors and contracts."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ingestion.sources import crm, events, marketing, pos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingestion.spec import Source

SOURCES: Mapping[str, Source] = MappingProxyType(
    {module.SOURCE.name: module.SOURCE for module in (pos, crm, marketing, events)}
)
