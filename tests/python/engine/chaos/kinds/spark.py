"""The Kafka log of `events.py`, read by Spark: drivers are killed; JVM, workers and checkpoint are left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.spark.streaming.job import open_spark_stream
from granary.streams import opening
from granary.streams.loop import Limits
from tests.python.engine.chaos.kinds.events import ADDRESS, StreamWorld, source

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class SparkLoader:
    """Streams by Spark until everything that is there has landed."""

    address: str
    prefix: str

    def load(self, settings: Settings) -> None:
        """Run `granary stream --once --spark`."""
        spec = source("chaos_stream", self.prefix)
        opening.SOURCES = {spec.name: spec}
        os.environ[ADDRESS] = self.address
        open_spark_stream(settings, spec.name, "local[2]", Limits(rows=600, patience_seconds=0)).run(once=True)


class SparkWorld(StreamWorld):
    """Two topics of two partitions, in batches of 600 messages, with a checkpoint that outlives each driver."""

    points = ("spark-before-commit", "spark-after-commit")
    apart = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.loader = SparkLoader(self.address(), self.prefix)
