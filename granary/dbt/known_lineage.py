"""The column lineage that earlier builds have read, kept in a file: a model whose SQL is the same is not read again.

To read one takes 4 ms and more, and a day changes no model.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from granary.dbt.column_lineage import node_lineage
from granary.dbt.manifest import folder
from granary.dbt.manifest_nodes import relation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.dbt.lineage import Columns, Lineage
    from granary.warehouse.settings import Settings

KEPT = 2_000
"""Lineages in the file at most: the ones that were needed last."""


class KnownLineage:
    """The lineages of the file, and those that are read meanwhile; without a file that can be used, of none before."""

    def __init__(self, settings: Settings) -> None:
        """Read the file, if there is one."""
        self._file = folder(settings) / "lineage.json"
        self._known: dict[str, Lineage] = {}
        self._is_new = False
        with suppress(OSError, ValueError):
            self._known = json.loads(self._file.read_bytes())

    def of(self, node: Mapping[str, Any], sql: str, parents: Mapping[str, Columns]) -> Lineage:
        """Return what `granary.dbt.column_lineage.node_lineage` does."""
        config = [node["config"].get(name) for name in ("unique_key", "updated_at")]
        asked = json.dumps([node["resource_type"], config, relation(node), sql, sorted(parents.items())])
        digest = sha256(asked.encode()).hexdigest()
        if digest in self._known:
            found = self._known.pop(digest)
        else:
            found, self._is_new = node_lineage(node, sql, parents), True
        self._known[digest] = found
        return {column: [(table, name) for table, name in origins] for column, origins in found.items()}

    def keep(self) -> None:
        """Write the file, if there is anything new."""
        if self._is_new:
            kept = dict(list(self._known.items())[-KEPT:])
            aside = self._file.with_suffix(".new")
            with suppress(OSError):
                aside.parent.mkdir(parents=True, exist_ok=True)
                aside.write_text(json.dumps(kept))
                aside.replace(self._file)
