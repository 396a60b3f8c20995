"""`granary stream SOURCE --spark`: a source's log by Spark Structured Streaming, exactly once.

Spark plans micro-batches of offsets, keeps them in its checkpoint, and reads and computes them in its workers. Whether
a batch has landed is not for the checkpoint to say: the warehouse's positions are in the transaction of its rows.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

import psycopg

from granary.sources.config import setting
from granary.spark.streaming.batches import Batches, stored
from granary.spark.streaming.fresh import prepare
from granary.spark.streaming.models import event_models
from granary.spark.streaming.session import SparkModels, session
from granary.streams.address import parse
from granary.streams.landing import Landing
from granary.streams.log import UnavailableError
from granary.streams.loop import FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, MAX_ROWS, Counts, Limits, passes
from granary.streams.opening import decoder_of, streaming
from granary.streams.registry import RegistryUnavailableError
from granary.warehouse.connection import connect, reason
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.filelock import take
from granary.warehouse.run_ledger import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from granary.sources.spec import Source, Table
    from granary.spark.streaming.fresh import FreshTable
    from granary.spark.streaming.models import EventModel
    from granary.streams.address import Address
    from granary.streams.log import Decoder, Lag, Positions
    from granary.warehouse.settings import Settings

OURS = re.compile(r"GranaryError: ([^\n]+)")
LATE, RETRIES = "Python worker failed to connect back", 20
WAITED_FOR = (psycopg.Error, OSError, TransientError, UnavailableError, RegistryUnavailableError)
log = logging.getLogger(__name__)


@dataclass
class SparkStream:
    """One source's log on its way into the warehouse, by Spark; `master` is where Spark runs."""

    settings: Settings
    source: Source
    tables: dict[str, Table]
    decoders: dict[str, Decoder]
    address: Address
    master: str
    limits: Limits = field(default_factory=Limits)
    report: Callable[[Counts, Sequence[Lag]], None] = lambda counts, lags: None
    counts: Counts = field(default_factory=Counts)
    stopping: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None
    _models: list[EventModel] = field(default_factory=list)

    def stop(self) -> None:
        """Ask the stream to end; may be called from a signal handler. A batch that is under way rolls back."""
        self.stopping.set()

    @property
    def checkpoint(self) -> Path:
        """Where Spark keeps which batches it planned."""
        return self.settings.home / "spark" / "checkpoints" / self.source.name

    def run(self, *, once: bool = False) -> Counts:
        """Read until stopped; with `once`, until everything that is there now has landed.

        Raises:
            GranaryError: the log or the data cannot be read, or the warehouse is away for longer than our patience.
        """
        began = time.monotonic()
        recorder = Recorder(self.settings, "stream", self.source.name)
        failure: BaseException | None = None
        held: TextIO | None = None
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            held = take(self.checkpoint.with_suffix(".lock"), f"streaming {self.source.name} by Spark")
            landing = Landing(self.source, self.tables, self.decoders, "kafka")
            self._models = event_models(self.settings, self.source)
            with connect(self.settings, role="loader") as connection:
                positions = stored(connection, landing)
            forget_if_ahead(self.checkpoint, positions)
            spark = session(self.settings, self.source.name, self.master)
            try:
                engine = SparkModels(self.settings, spark, self.source.name)
                batches = Batches(self.settings, landing, self._fresh(), engine, recorder.run.run_id)
                while not self._follow(self._start(spark, batches, positions, once=once)):
                    self.counts.retries += 1
            finally:
                spark.stop()
        except BaseException as error:
            failure = error
            raise
        finally:
            self.counts.seconds = time.monotonic() - began
            recorder.count(self.counts.rows_loaded)
            self.report(self.counts, [])
            recorder.end(failure)
            if held:
                held.close()
        return self.counts

    def _start(self, spark: Any, batches: Batches, positions: Positions, *, once: bool) -> Any:
        from granary.spark.streaming.kafka_source import NAME, KafkaSource, client_of  # noqa: PLC0415 - needs pyspark

        spark.dataSource.register(KafkaSource)
        options = {
            "secret": json.dumps(client_of(self.address.hosts, self.address.options)),
            "topics": json.dumps(list(self.tables)),
            "positions": json.dumps(positions),
            "rows": str(min(self.limits.rows, MAX_ROWS)),
        }
        writer = spark.readStream.format(NAME).options(**options).load().writeStream
        writer = writer.foreachBatch(lambda frame, number: self._land(batches, frame.toArrow(), number))
        writer = writer.option("checkpointLocation", str(self.checkpoint))
        if once:
            return writer.trigger(availableNow=True).start()
        return writer.trigger(processingTime=f"{self.limits.seconds} seconds").start()

    def _follow(self, query: Any) -> bool:
        """Wait until a query ends, or is to end; return False if it is to be started again.

        Spark gives a Python worker ten seconds to come up, which is little on a busy machine.
        """
        from pyspark.errors import StreamingQueryException  # noqa: PLC0415

        try:
            while not query.awaitTermination(0.5):
                if self.stopping.is_set():
                    query.stop()
                    return True
            return True
        except StreamingQueryException as error:
            if self.stopping.is_set():
                return True
            if LATE in str(error) and self.counts.retries < RETRIES:
                log.warning("%s: a Python worker was late; the query starts again", self.source.name)
                return False
            if self._failure is not None:
                raise self._failure from None
            found = OURS.findall(str(error))
            words = found[-1] if found else str(error).strip().splitlines()[0][:300]
            raise GranaryError(f"Spark ended the stream: {words}", self.source.name, "start it again") from None

    # -- one batch ---------------------------------------------------------------------------------------------

    def _land(self, batches: Batches, batch: pa.Table, number: int) -> None:
        """Bring a batch into the warehouse, as often as it takes."""
        ends, pause = time.monotonic() + self.limits.patience_seconds, FIRST_PAUSE_SECONDS
        try:
            while not self.stopping.is_set():
                try:
                    self._attempt(batches, batch)
                    return
                except WAITED_FOR as error:
                    words = str(error) if isinstance(error, GranaryError) else reason(error)
                    if not passes(error) or time.monotonic() > ends:
                        raise GranaryError(
                            f"the warehouse refuses a batch: {words}",
                            self.source.name,
                            "nothing is lost: fix the cause and start the stream again",
                        ) from None
                    self.counts.retries += 1
                    log.warning("batch %s: %s; trying again in %.1f s", number, words, pause)
                self.stopping.wait(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
            raise InterruptedError  # the checkpoint must not say that it has landed
        except BaseException as error:
            self._failure = error
            raise

    def _fresh(self) -> tuple[FreshTable, ...]:
        """Return where the rows of models go; a build from scratch takes the view with it, so it is looked for."""
        return tuple(prepare(self.settings, self.source.name, model) for model in self._models)

    def _attempt(self, batches: Batches, batch: pa.Table) -> None:
        fresh = self._fresh()
        with connect(self.settings, role="loader") as connection:
            done = replace(batches, fresh=fresh).land(connection, batch)
        self.counts.batches += 1
        self.counts.rows_read += sum(one.rows_read for one in done)
        self.counts.rows_loaded += sum(one.rows_loaded for one in done)
        self.counts.rows_quarantined += sum(one.rows_quarantined for one in done)


def open_spark_stream(
    settings: Settings,
    name: str,
    master: str,
    limits: Limits | None = None,
    report: Callable[[Counts, Sequence[Lag]], None] = lambda counts, lags: None,
) -> SparkStream:
    """Return the stream of a source by Spark, ready to run.

    Raises:
        GranaryError: the source does not stream, its address is wrong, or it is no Kafka.
    """
    source, stream = streaming(name)
    address = parse(setting(settings, stream.address), stream.address)
    if address.kind != "kafka":
        raise GranaryError(f"Spark reads Kafka, and not {address.kind}", stream.address, "leave out --spark")
    if stream.envelope:
        raise GranaryError(f"Spark reads no envelopes of {stream.envelope}", stream.address, "leave out --spark")
    tables = {topic: source.table(table) for table, topic in stream.topics.items()}
    decoders = {topic: decoder_of(table, address) for topic, table in tables.items()}
    return SparkStream(settings, source, tables, decoders, address, master, limits or Limits(), report)


def forget_if_ahead(checkpoint: Path, positions: Positions) -> None:
    """Throw a checkpoint away that says more has landed than the warehouse holds, as after a restore.

    Spark writes a file for each batch that it plans into `offsets`, and one into `commits` when it has ended. Where
    none has ended, or a crash left a file unreadable, the checkpoint goes as well: the warehouse knows where to begin.
    """
    if not checkpoint.exists():
        return
    with suppress(OSError, ValueError):
        ended = [int(path.name) for path in (checkpoint / "commits").iterdir() if path.name.isdecimal()]
        landed = json.loads((checkpoint / "offsets" / str(max(ended))).read_text().splitlines()[-1])
        if all(name in positions and int(positions[name]) >= end for name, end in landed.items() if end):
            return
    log.warning("%s: more has landed by it than the warehouse holds; it begins anew", checkpoint)
    shutil.rmtree(checkpoint)
