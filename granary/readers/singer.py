"""Singer taps and dlt sources as sources (docs/engine/sources/connectors.md)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from granary.readers.connectors import environment
from granary.readers.connectors.reader import ConnectorReader
from granary.readers.connectors.run import RUN_FOLDER
from granary.sources import validation
from granary.sources.guarantees import Guarantees
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ConnectorReader", "dlt_source", "singer"]

RUNNER = Path(__file__).parent / "connectors" / "dlt_runner.py"
HOLE = re.compile(r"\$\{(\w+)\}")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
DLT = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "WARNING", "DLT_TELEMETRY_DISABLED": "1"}

SINGER = Guarantees(
    kind="Singer tap",
    declared="singer",
    command="granary load",
    exactly_once="yes, by key: the tap's state commits with the rows; it must send again all that follows a state",
    deletes="in part: where a table is replaced, or the tap activates a new version",
    order="yes: as the tap sends",
    lag="no: a tap does not say what waits",
    page="connectors",
    proofs=("singer",),
)
DLT_SOURCE = Guarantees(
    kind="dlt source",
    declared="dlt_source",
    command="granary load",
    exactly_once="yes, by key: the source's state commits with the rows of its run",
    deletes="in part: where a table is replaced",
    order="yes: as the source yields",
    lag="no: a source does not say what waits",
    page="connectors",
    proofs=("dlt",),
)


def singer(
    tap: str,
    config: str | Mapping[str, Any],
    settings: Mapping[str, str] | None = None,
    *,
    needs: Mapping[str, tuple[str, ...]] | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    batch: Literal["jsonl", "parquet"] | None = None,
    silence: float = 600.0,
    rows: int = 100_000,
    seconds: float = 60.0,
) -> ConnectorReader:
    """Return the reader of a Singer tap that `granary connect install` has installed.

    Args:
        tap: the tap's program, such as "tap-csv"; also the name of its lock.
        config: its configuration, or the JSON file in the project that holds it, such as "connectors/shop.json".
        settings: the source's settings, which take the place of "${GRANARY_SHOP_PASSWORD}" in the configuration.
        needs: stream -> the streams that have to be read for it, such as its parents; their rows are left out.
        metadata: stream -> what its entry in the catalogue is to say, such as {"replication-method": "LOG_BASED"}.
        batch: have a tap that can write its rows into files of this kind.
        silence: seconds after which a tap that says nothing is ended.
        rows: rows after which the next state is committed.
        seconds: likewise seconds.

    Raises:
        GranaryError: the configuration is not there, is not JSON, or wants a setting that was not given.
        ValueError: an argument is of another kind than it should be.
    """
    given = {"tap": tap, "needs": needs, "metadata": metadata, "batch": batch, "silence": silence, "rows": rows}
    _check(singer, f"singer {tap}", given | {"seconds": seconds})
    filled = _config(config, settings or {})
    if batch:
        packed = {"format": batch, "compression": "gzip"}
        storage = {"root": f"file://{RUN_FOLDER}", "prefix": "batch-"}
        filled = filled | {"batch_config": {"encoding": packed, "storage": storage}}
    return ConnectorReader(
        tap,
        lambda: [str(environment.program(tap))],
        filled,
        needs=needs or {},
        metadata=metadata or {},
        silence=silence,
        rows=rows,
        seconds=seconds,
        more={},
        guarantees=SINGER,
    )


def dlt_source(
    function: str,
    config: str | Mapping[str, Any],
    settings: Mapping[str, str] | None = None,
    *,
    connector: str = "dlt",
    silence: float = 600.0,
) -> ConnectorReader:
    """Return the reader of a dlt source, which runs in the environment of a connector.

    Args:
        function: what makes the source, such as "dlt.sources.sql_database:sql_database"; a module of the project's
            own may lie in `connectors/`.
        config: what the function is called with, as in `singer`.
        settings: as in `singer`.
        connector: the name of the lock: `granary connect install dlt --package 'dlt[sql_database]'`.
        silence: as in `singer`.

    Raises:
        GranaryError: as in `singer`.
        ValueError: as in `singer`, or the function is not written MODULE:FUNCTION.
    """
    _check(dlt_source, f"dlt_source {function}", {"function": function, "connector": connector, "silence": silence})
    if FUNCTION.fullmatch(function) is None:
        raise ValueError(f"dlt_source: function is MODULE:FUNCTION and not {function!r}")

    def command() -> Sequence[str]:
        return [str(environment.python(connector)), "-I", str(RUNNER), str(environment.locks()), function]

    return ConnectorReader(
        connector,
        command,
        _config(config, settings or {}),
        needs={},
        metadata={},
        silence=silence,
        rows=sys.maxsize,
        seconds=float(sys.maxsize),
        more=DLT,
        guarantees=DLT_SOURCE,
    )


def _check(function: Any, label: str, values: Mapping[str, Any]) -> None:
    validation.arguments(function, label, values)
    positive = tuple(name for name in ("silence", "rows", "seconds") if name in values)
    validation.ranges(values, label, filled=("tap",) if "tap" in values else (), positive=positive)


def _config(config: str | Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    where = config if isinstance(config, str) else "its config"
    found: Any = config
    if isinstance(config, str):
        path = PROJECT / config
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            what = f"the configuration cannot be read: {error.strerror}"
            raise GranaryError(what, str(path), "name its file") from None
        except ValueError as error:
            raise GranaryError(f"the configuration is not JSON: {error}", str(path), "correct it") from None
    if not isinstance(found, dict) and not hasattr(found, "items"):
        raise GranaryError("the configuration is no object", where, "write {…}")
    return {str(name): _filled(value, settings, where) for name, value in found.items()}


def _filled(value: Any, settings: Mapping[str, str], where: str) -> Any:
    """Return a value with settings in place of their names."""
    if isinstance(value, str):

        def named(found: re.Match[str]) -> str:
            if found[1] not in settings:
                todo = "name it among the source's settings, and hand them on"
                raise GranaryError(f"the configuration wants {found[1]}, which was not given", where, todo)
            return settings[found[1]]

        return HOLE.sub(named, value)
    if isinstance(value, dict):
        return {name: _filled(inner, settings, where) for name, inner in value.items()}
    return [_filled(inner, settings, where) for inner in value] if isinstance(value, (list, tuple)) else value
