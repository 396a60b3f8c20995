"""The check of a source table that what came is like what came before, with a picture of what is not."""

from typing import Any

import dagster as dg

from granary.monitoring.anomalies.look import Look, series
from granary.monitoring.anomalies.plot import markdown
from granary.monitoring.anomalies.records import lines
from granary.sources.spec import Table
from granary.warehouse.settings import Settings

EXPECTED_CHECK = "as_expected"
SHOWN, PLOTTED = 20, 3
"""Anomalies that a page lists, and series that it draws."""
COLUMNS = ("day", "unit", "column", "metric", "value", "low", "high", "message")


def expected_check(settings: Settings, source: str, table: Table, found: Look) -> dg.AssetCheckResult:
    """Return the check that warns of the table's open anomalies; in its first days it passes, and says so."""
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey([source, table.name]),
        check_name=EXPECTED_CHECK,
        passed=not found.open and not found.problem,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.problem or "; ".join(lines(found.open)) or quiet_words(found) or None,
        metadata=_metadata(settings, source, table, found),
    )


def quiet_words(found: Look) -> str:
    """Return that nothing is expected yet, and for how long; nothing where something is."""
    return f"quiet: {found.quiet} more days have to come until something is expected" if found.quiet else ""


def _metadata(settings: Settings, source: str, table: Table, found: Look) -> dict[str, Any]:
    metadata: dict[str, Any] = {"open anomalies": len(found.open), "quiet for": found.quiet}
    if not found.open:
        return metadata
    records = [dg.TableRecord({name: str(getattr(one, name)) for name in COLUMNS}) for one in found.open[:SHOWN]]
    metadata["anomalies"] = dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in COLUMNS]))
    keys = list(dict.fromkeys(one.key for one in found.open))[:PLOTTED]
    for key, drawn in series(settings, source, table, keys).items():
        metadata[" ".join(key).strip()] = dg.MetadataValue.md(markdown(drawn, key))
    return metadata
