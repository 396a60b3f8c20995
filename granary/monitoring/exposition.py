"""The metrics of a warehouse as Prometheus reads them: printed, in a file for the node exporter, or served."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from granary.load.newest import last_date
from granary.monitoring.families import FAMILIES, FRESHNESS, HISTOGRAMS, OWN, Family, Histogram
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify
from granary.warehouse.migrate import engine_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ROLE = "monitor"
STATEMENT_SECONDS, LOCK_SECONDS = 5, 1
"""How long one query may take, and wait for a lock, before its metrics are left out."""


class Collector:
    """Reads the metrics anew each time that it is asked; a warehouse that is down is `granary_up 0`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        began, errors, is_up = time.perf_counter(), 0, 1
        try:
            with closing(connect(self.settings, role=ROLE, autocommit=True)) as connection:
                for name, value in (("statement", STATEMENT_SECONDS), ("lock", LOCK_SECONDS)):
                    execute(connection, f"set {name}_timeout = '{value}s'")
                for family in FAMILIES:
                    rows = _ask(connection, family.sql)
                    errors += rows is None
                    yield from gauges(family, self._judged(family, rows or ()))
                for histogram in HISTOGRAMS:
                    rows = _ask(connection, histogram.sql)
                    errors += rows is None
                    yield counted(histogram, rows or ())
        except (GranaryError, psycopg.Error, OSError) as error:
            is_up = 0
            notify(f"warning: no metrics of the warehouse: {error}")
        seconds = time.perf_counter() - began
        for own, known in zip(OWN, (float(is_up), 1.0, seconds, float(errors)), strict=True):
            labels = ("version",) if own.name == "granary_info" else ()
            sample = GaugeMetricFamily(own.name, own.help, labels=labels)
            sample.add_metric([engine_version()] if labels else [], known)
            yield sample

    def _judged(self, family: Family, rows: Sequence[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        """Return the rows; a table is late for old data too, unless the history has ended and no more comes."""
        if family is not FRESHNESS or last_date(self.settings) is not None:
            return rows
        return [
            (source, table, new, data, allowed, int(late or (data is not None and allowed and data > allowed)))
            for source, table, new, data, allowed, late in rows
        ]


def _ask(connection: Connection, sql: str) -> list[tuple[Any, ...]] | None:
    """Return the rows of a query; None if it took too long, or its view is locked or not there yet."""
    try:
        return query(connection, sql)
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable) as error:
        notify(f"warning: metrics are left out: {' '.join(str(error).split())[:200]}")
    except psycopg.errors.InsufficientPrivilege as error:
        notify(f"warning: metrics are left out: {error}; `granary up` gives the role {ROLE} its rights")
    return None


def gauges(family: Family, rows: Iterable[tuple[Any, ...]]) -> Iterator[GaugeMetricFamily]:
    """Yield the gauges of a family with a sample for each row that has a value."""
    count, found = len(family.labels), list(rows)
    for place, gauge in enumerate(family.gauges, start=count):
        metric = GaugeMetricFamily(gauge.name, gauge.help, labels=family.labels)
        for row in found:
            if row[place] is not None:
                metric.add_metric(["" if label is None else str(label) for label in row[:count]], float(row[place]))
        yield metric


def counted(histogram: Histogram, rows: Iterable[tuple[Any, ...]]) -> HistogramMetricFamily:
    """Return a histogram of rows: for each combination of labels, how many values are at most as large as a bucket."""
    values: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for *labels, value in rows:
        values[tuple(map(str, labels))].append(float(value))
    metric = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.labels)
    for names, found in values.items():
        counts = [0] * (len(histogram.buckets) + 1)
        for value in found:
            counts[bisect_left(histogram.buckets, value)] += 1
        bounds = [*(str(float(bound)) for bound in histogram.buckets), "+Inf"]
        sums = [sum(counts[: place + 1]) for place in range(len(counts))]
        metric.add_metric(list(names), list(zip(bounds, sums, strict=True)), sum(found))
    return metric


def registry(settings: Settings) -> CollectorRegistry:
    """Return a registry with the metrics of a warehouse alone."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Collector(settings))
    return made


def text(settings: Settings) -> str:
    """Return the metrics in Prometheus' text format."""
    return generate_latest(registry(settings)).decode()


def write(settings: Settings, path: Path) -> None:
    """Write the metrics into a file for the node exporter, which sees the old one or the new one, never half of it.

    Raises:
        GranaryError: the file cannot be written.
    """
    try:
        write_to_textfile(str(path), registry(settings))
    except OSError as error:
        words = f"the metrics cannot be written: {error.strerror}"
        raise GranaryError(words, str(path), "name a file in a folder that this user may write") from None


def serve(settings: Settings, port: int) -> tuple[WSGIServer, Thread]:
    """Serve /metrics on loopback; each scrape reads the warehouse anew, several at a time in threads.

    Raises:
        GranaryError: the port is taken.
    """
    try:
        return start_http_server(port, addr="127.0.0.1", registry=registry(settings))
    except OSError as error:
        words = f"port {port} cannot be opened: {error.strerror}"
        raise GranaryError(words, "127.0.0.1", "choose another one: `granary metrics --serve --port`") from None
