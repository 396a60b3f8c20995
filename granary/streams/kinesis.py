"""Amazon Kinesis: the shards of a stream, read in order, with sequence numbers as positions.

A shard that was split or merged is read to its end before its children, so that what belongs together keeps its order.
Limits of the service: 5 reads a second and 2 MB a second for each shard
(https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html).
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.streams.aws import client
from granary.streams.following import Following, Part
from granary.streams.log import Lag, Message, Run, UnavailableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.streams.address import Address

ENDED = "ended"
"""The position behind the last record of a shard that was closed by a split or merge."""
READ_SECONDS = 0.25
"""Pause between two reads of a shard: the service allows five a second."""
LIST_SECONDS = 30.0
MAX_RECORDS = 10_000
EXPIRED = ("ExpiredIteratorException",)
THROTTLED = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ThrottlingException",
)


@dataclass
class _Shard(Part):
    """One shard; `ending` is the number of its last record, if it was closed."""

    name: str = ""
    parents: tuple[str, ...] = ()
    ending: str | None = None
    iterator: str | None = None
    read_at: float = 0.0
    behind_ms: int = -1


class KinesisLog(Following[_Shard]):
    """The streams of one source."""

    kind = "kinesis"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client; credentials are found in the ways of AWS: environment, profile, or the machine's role.

        Raises:
            GranaryError: botocore is not installed.
        """
        super().__init__()
        self._client, self._refused, self._broken = client("Kinesis", address)
        self.topics, self._where = list(topics), f"Kinesis in {address.hosts}"
        self._listed = -LIST_SECONDS

    def _list(self) -> None:
        """Learn of shards that a split or merge has made."""
        for topic in self.topics:
            more: dict[str, str] = {"StreamName": topic}
            while more:
                found = self._ask("list_shards", **more)
                for shard in found["Shards"]:
                    parents = tuple(shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard)
                    partition = f"{topic}[{shard['ShardId']}]"
                    if partition not in self.parts:
                        self.restart(self.add(_Shard(topic, partition, name=shard["ShardId"], parents=parents)))
                    self.parts[partition].ending = shard["SequenceNumberRange"].get("EndingSequenceNumber")
                more = {"NextToken": found["NextToken"]} if found.get("NextToken") else {}
        self._listed = time.monotonic()

    def _ready(self) -> list[_Shard]:
        """Return the shards to read now: not at their end, and with no parent of ours that is not."""
        return [
            shard
            for shard in self.parts.values()
            if shard.position != ENDED
            and all(
                self.parts[name].position == ENDED
                for name in (f"{shard.topic}[{parent}]" for parent in shard.parents)
                if name in self.parts
            )
        ]

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what the shards have, by shard, each read at most once."""
        ends = time.monotonic() + seconds
        if time.monotonic() - self._listed >= LIST_SECONDS:
            with suppress(_PassingError):
                self._list()
        runs: list[Run] = []
        for shard in self._ready():
            if rows <= 0:
                break
            if time.monotonic() - shard.read_at >= READ_SECONDS:
                run = self._read(shard, rows)
                if run is not None:
                    runs.append(run)
                    rows -= len(run.messages)
        if not runs and (left := ends - time.monotonic()) > 0:
            time.sleep(left)
        return runs

    def _read(self, shard: _Shard, rows: int) -> Run | None:
        shard.read_at = time.monotonic()
        if shard.ending is not None and int(shard.position or -1) >= int(shard.ending):
            return Run(shard.topic, shard.partition, shard.position, ENDED, ())
        try:
            if shard.iterator is None:
                shard.iterator = self._iterator(shard)
            found = self._ask("get_records", ShardIterator=shard.iterator, Limit=min(rows, MAX_RECORDS))
        except _PassingError:
            shard.iterator = None
            return None
        shard.iterator = found.get("NextShardIterator")
        shard.behind_ms = int(found.get("MillisBehindLatest", -1))
        records = found["Records"]
        closed = shard.iterator is None
        shard.ended = shard.behind_ms == 0
        if not records and not closed:
            return None
        messages = tuple(
            Message(bytes(record["Data"]), None, record["ApproximateArrivalTimestamp"].timestamp())
            for record in records
        )
        end = ENDED if closed else str(records[-1]["SequenceNumber"])
        if closed:
            self._listed = -LIST_SECONDS  # its children are there now
        return Run(shard.topic, shard.partition, shard.position, end, messages)

    def _iterator(self, shard: _Shard) -> str:
        place = (
            {"ShardIteratorType": "TRIM_HORIZON"}
            if shard.position is None
            else {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": shard.position}
        )
        found = self._ask("get_shard_iterator", StreamName=shard.topic, ShardId=shard.name, **place)
        return str(found["ShardIterator"])

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Call the service.

        Raises:
            _PassingError: it wants to be asked again, more slowly or with a new iterator.
            GranaryError: it denies access, or there is no such stream.
            UnavailableError: it does not answer.
        """
        try:
            answer: dict[str, Any] = getattr(self._client, what)(**arguments)
        except self._refused as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in (*EXPIRED, *THROTTLED):
                raise _PassingError from None
            if code == "InvalidArgumentException" and what == "get_shard_iterator":
                raise GranaryError(
                    "Kinesis does not know our position any more: the stream was created again, or its retention ended",
                    str(arguments.get("StreamName")),
                    "forget the position: `granary guide runbooks/stream-lag`",
                ) from None
            raise GranaryError(
                f"Kinesis refuses: {code}", self._where, "check the stream's name and the credentials"
            ) from None
        except self._broken as error:
            raise UnavailableError(
                f"Kinesis does not answer: {str(error)[:200]}", self._where, "check the address"
            ) from None
        return answer

    def landed(self, runs: Sequence[Run]) -> None:
        """Begin the next runs behind these."""
        super().landed(runs)
        for run in runs:
            self.parts[run.partition].ended |= run.end == ENDED

    def restart(self, part: _Shard) -> None:
        """Forget what was received of a shard and has not landed."""
        super().restart(part)
        part.iterator, part.behind_ms, part.ended = None, -1, part.position == ENDED

    def at_end(self) -> bool:
        """Return whether each shard has been read up to now, or to its end, and those that came of it are known."""
        return super().at_end() and self._listed >= 0

    def lag(self) -> list[Lag]:
        """Return how far behind the shards are: Kinesis says it in time only."""
        return [
            Lag(shard.partition, shard.position, None, max(0, shard.behind_ms) / 1000)
            for shard in self.parts.values()
            if shard.position != ENDED
        ]

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far behind these positions are, without reading on from them."""
        self.open(lambda: positions)
        self.poll(1, 0)
        return self.lag()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class _PassingError(Exception):
    """Kinesis wants to be asked again."""
