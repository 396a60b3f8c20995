"""What is to be said of a table after a load, for commands and Dagster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.monitoring.anomalies import records
from granary.monitoring.anomalies.bands import QUIET
from granary.monitoring.anomalies.config import config
from granary.monitoring.anomalies.judge import ROWS
from granary.monitoring.anomalies.plot import Drawn, drawn
from granary.monitoring.anomalies.watch import filled, rules_of, watch
from granary.warehouse.connection import connect, query, reason
from granary.warehouse.environment_errors import plainly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.monitoring.anomalies.observe import Key
    from granary.monitoring.anomalies.records import Anomaly
    from granary.sources.spec import Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

DAYS_SEEN = """
    select count(*) from ops.observations
    where source = $1 and table_name = $2 and column_name = '' and metric = $3
"""


@dataclass(frozen=True)
class Look:
    """What is to be said of a table after a look.

    `open` are its anomalies that are neither muted nor over, `new` those of them that this look has found. `quiet` is
    how many days, or units, have to come until anything is expected. `problem` says why nothing could be looked at.
    """

    open: tuple[Anomaly, ...] = ()
    new: tuple[Anomaly, ...] = ()
    quiet: int = 0
    problem: str = ""


def look(settings: Settings, source: str, table: Table) -> Look:
    """Look at what was loaded, and say what is not as usual; raises nothing: no load fails because of this."""
    try:
        with connect(settings, role="loader") as connection:
            (began,) = query(connection, "select clock_timestamp()")[0]
        found = [one for one in watch(settings, source, table) if not one.muted]
        with connect(settings, role="loader") as connection:
            quiet = quiet_days(connection, source, table)
    except Exception as error:  # whatever it is, the load is done
        words = str(plainly(error) or f"{type(error).__name__}: {reason(error)}")
        return Look(problem=f"anomalies of {source}.{table.name} cannot be looked for: {words}")
    return Look(tuple(found), tuple(one for one in found if one.first_seen_at >= began), quiet)


def quiet_days(connection: Connection, source: str, table: Table) -> int:
    """Return how many more days, or units, a table has to bring until anything is expected of it."""
    return max(0, QUIET - int(query(connection, DAYS_SEEN, source, table.name, ROWS[1])[0][0]))


def series(settings: Settings, source: str, table: Table, keys: Sequence[Key]) -> dict[Key, list[Drawn]]:
    """Return the last values of these series of a table, and what was expected of each."""
    with connect(settings, role="loader") as connection:
        kept = records.observations(connection, source, table.name)
        rules = rules_of(connection, source, table, config(), None)
    history = filled(kept.values(), table)
    return {key: drawn(history, key, rules) for key in keys}


def every_key(settings: Settings, source: str, table: Table) -> list[Key]:
    """Return the series that a table has: column and metric."""
    with connect(settings, role="loader") as connection:
        found = query(
            connection,
            "select column_name, metric from ops.observations where source = $1 and table_name = $2"
            " group by column_name, metric order by column_name, metric",
            source,
            table.name,
        )
    return [(column, metric) for column, metric in found]
