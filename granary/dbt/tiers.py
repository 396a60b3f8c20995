"""The tiers of personal data, as dbt_project.yml defines them (the var `personal_tiers`; see docs/engine/access.md)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from granary.dbt.manifest_nodes import meta
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "mask"


@cache
def tiers() -> Mapping[str, str]:
    """Return what is done with the columns of each tier: mask, or show."""
    found: Mapping[str, str] = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]["personal_tiers"]
    return found


def tier(column: Mapping[str, Any]) -> str | None:
    """Return the tier that a column of dbt's manifest declares."""
    return meta(column).get("personal")


def is_masked(column: Mapping[str, Any]) -> bool:
    """Return whether only few may see what is in the column."""
    return tiers().get(tier(column) or "") == MASK
