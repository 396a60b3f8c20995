"""The limits that the documents name are those that the code has; other tests reach them with smaller numbers."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from granary.cli import streams as commands
from granary.dagster import retention as dagster_retention
from granary.explain import trace
from granary.load import contract
from granary.readers.api.http import BACKOFF_SECONDS
from granary.readers.database import DatabaseReader, connecting, snapshot
from granary.readers.files import reader, store, xml_rows
from granary.readers.files.limits import MB, Limits
from granary.readers.rest import Api
from granary.sources.spec import Capture, Table
from granary.streams import loop, pubsub, queues, rabbitmq_queue, signatures, sqs, webhooks
from granary.streams.address import MAX_BYTES
from granary.streams.receiving import CAPACITY
from granary.warehouse import connection, doctor, json_text, retention, steps, writer
from granary.warehouse.build_lock import SECONDS as BUILD_SECONDS
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = PROJECT / "docs" / "engine"
MIB = 1 << 20


def default(of: type[Any], name: str) -> Any:
    """Return what a field is if nobody says."""
    (found,) = (field.default for field in fields(of) if field.name == name)
    assert found is not MISSING
    return found


def argument(of: Callable[..., Any], name: str) -> Any:
    return inspect.signature(of).parameters[name].default


LIMITS = Limits()
PROMISES = [
    ("contracts.md", f"over `max_new_columns` ({default(Table, 'max_new_columns')}) of them"),
    ("contracts.md", f"its rows ({100 * default(Table, 'max_refused'):g} % unless the table says otherwise)"),
    ("contracts.md", f"key of over {contract.KEY_BYTES:,} bytes)"),
    ("contracts.md", f"more than {json_text.MAX_DEPTH} levels of objects and lists"),
    ("sources/apis.md", f"| `timeout` | {default(Api, 'timeout'):g} s |"),
    ("sources/apis.md", f"| `deadline` | {default(Api, 'deadline'):g} s |"),
    ("sources/apis.md", f"| `max_bytes` | {default(Api, 'max_bytes') // MIB} MiB |"),
    ("sources/apis.md", f"| `max_pages` | {default(Api, 'max_pages'):,} |"),
    ("sources/apis.md", f"| `max_depth` | {default(Api, 'max_depth')} |"),
    ("sources/apis.md", f"(`attempts`, {default(Api, 'attempts')})"),
    ("sources/apis.md", f"up to `longest_wait` ({default(Api, 'longest_wait'):g} s)"),
    ("sources/databases.md", f"({argument(DatabaseReader, 'timeout') // timedelta(hours=1)} hours by default)"),
    ("sources/databases.md", f"up after {connecting.CONNECT_SECONDS} seconds"),
    ("sources/databases.md", f"says nothing after {connecting.LOGIN_SECONDS} at most"),
    ("sources/databases.md", f"silent for {connecting.SILENCE_SECONDS // 60} minutes"),
    ("sources/databases.md", f"waits at most {snapshot.LOCK_SECONDS} s for writers"),
    ("sources/change-capture.md", f"alarm over {default(Capture, 'alarm_bytes'):,} bytes or 3,600 s"),
    ("sources/streams.md", f"after `--batch-rows` messages ({argument(commands.stream, 'batch_rows'):,})"),
    ("sources/streams.md", f"or `--batch-seconds` ({argument(commands.stream, 'batch_seconds'):g})"),
    ("sources/streams.md", f"for `--patience` seconds ({argument(commands.stream, 'patience'):g})"),
    ("sources/streams.md", f"printed every {loop.REPORT_SECONDS:g} seconds"),
    ("sources/streams.md", f"to the quarantine; {MAX_BYTES // MIB} MiB if not given"),
    ("sources/queues.md", f"and so in a batch; {rabbitmq_queue.PREFETCH:,} |"),
    ("sources/queues.md", f"held is given again; {sqs.VISIBILITY_SECONDS} |"),
    ("sources/queues.md", f"`record_days` ({retention.DAYS}), and never less than the 35 days"),
    ("sources/queues.md", f"known, else it is taken for {pubsub.DEADLINE_SECONDS:g} seconds"),
    ("sources/queues.md", f"and five seconds, {pubsub.QUIET_SECONDS:g} seconds at most"),
    ("sources/queues.md", f"a batch also ends at {queues.BATCH_BYTES // MIB} MB"),
    ("sources/streams.md", f"a list of up to {webhooks.MAX_EVENTS:,}, of at most {webhooks.MAX_BYTES // MIB} MiB"),
    ("sources/streams.md", f"more than {signatures.TOLERANCE_SECONDS} s away from ours"),
    ("sources/streams.md", f"A body has {webhooks.BODY_SECONDS:g} s to arrive"),
    ("sources/streams.md", f"at most {webhooks.LAND_SECONDS:g} s for its commit, beside at most {CAPACITY:,} others"),
    ("sources/streams.md", f"from {webhooks.CONCURRENT:,} connections on"),
    ("sources/files.md", f"over {LIMITS.ratio} times the packed size, from {LIMITS.ratio_from // MB} MB on"),
    ("sources/files.md", f"or over {LIMITS.unpacked // MB // 1024} GB)"),
    ("sources/files.md", f"workbooks over {LIMITS.workbook // MB} MB unpacked, or {LIMITS.memory // MB // 1024} GB"),
    ("sources/files.md", f"XML elements over {LIMITS.record // MB} MB"),
    ("sources/files.md", f"over {xml_rows.DEEPEST} levels in XML; over {LIMITS.columns:,} columns"),
    ("sources/files.md", f"over {LIMITS.refused // MB} MB of refused rows"),
    ("sources/files.md", f"within the last {store.YOUNG_SECONDS:g} seconds"),
    ("sources/files.md", f"The first {store.LOOKED_INTO} folders"),
    ("sources/files.md", f"and {reader.MOST_LEFT:,} files named"),
    ("access.md", f"({connection.LOCK_SECONDS} s for tables, {writer.LOCK_WAIT_SECONDS} s for another load"),
    ("explain.md", f"at most {trace.SECONDS} seconds"),
]


@pytest.mark.parametrize(("document", "words"), PROMISES)
def test_a_limit_is_as_it_is_said(document: str, words: str) -> None:
    assert words in " ".join((DOCS / document).read_text().split())


def test_limits_that_are_said_in_words() -> None:
    assert timedelta(days=2) == contract.AHEAD
    assert timedelta(hours=1) == default(Capture, "alarm_age")
    assert timedelta(seconds=BUILD_SECONDS) == timedelta(hours=1)
    assert BACKOFF_SECONDS * 2**1 == 1  # the bound of the wait after the first attempt


def test_the_runbook_of_upkeep_says_what_is_found_and_what_is_kept() -> None:
    text = (DOCS / "runbooks" / "upkeep.md").read_text()
    for policy in retention.POLICIES:
        kept = f"{policy.keeps[0].upper()}{policy.keeps[1:]}{'; the rest goes' if policy.aged else ''}"
        assert f"| `{policy.table}` | {kept} |" in text
    assert f"a var in `dbt_project.yml`; {retention.DAYS})" in text
    assert f"the last {dagster_retention.VERDICTS_KEPT} verdicts" in text
    assert (steps.RUNS_LOOKED_AT, "the median of the last five runs" in text) == (5, True)
    assert doctor.Limits() == doctor.Limits(
        slow_seconds=5,  # more than 5 s and a tenth of all steps
        slow_share=0.1,
        slower_seconds=2,  # twice the median, and 2 s more
        slower_times=2,
        index_bytes=MIB,  # 1 MB or more
        dead_rows=10_000,  # 10,000 or more, and a fifth of the live ones
        dead_share=0.2,
        bloat_bytes=32 * MIB,  # more than half of the table and 32 MB
        bloat_share=0.5,
        statistics_rows=1_000,  # 1,000 rows or more, or off by a fifth
        statistics_share=0.2,
        scanned_bytes=16 * MIB,  # 16 MB or more, a hundred times
        scans=100,
        held_bytes=1024 * MIB,  # 1 GB or more
        transaction_age=1_000_000_000,  # a billion
        free_share=0.1,  # less than a tenth
    )
