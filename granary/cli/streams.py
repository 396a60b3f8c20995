"""`granary stream`, `granary serve-webhooks` and `granary replay`: events in, and the marts anew from them."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from granary.cli import log, output
from granary.cli.options import AsJson, ready
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.dbt.run_events import Problem
    from granary.spark.streaming.job import SparkStream
    from granary.streams.log import Lag
    from granary.streams.loop import Counts, StreamLoop

SECOND_SIGNAL_ENDS = "Ending after the current batch; again to end at once."


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        epilog="Examples: granary stream events · granary stream events --once --json · granary stream events --status"
    )(stream)
    app.command("serve-webhooks", epilog="Example: granary serve-webhooks --port 8787")(serve_webhooks)
    app.command(epilog="Examples: granary replay events · granary replay events.clicks")(replay)


def stream(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A source that streams, such as events.")],
    once: Annotated[bool, typer.Option("--once", help="End when everything that is there now has landed.")] = False,
    batch_rows: Annotated[int, typer.Option(min=1, max=10_000, help="Most messages of a micro-batch.")] = 5_000,
    batch_seconds: Annotated[float, typer.Option(min=0.01, max=60, help="Longest time that one gathers.")] = 0.25,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a warehouse that does not answer.")
    ] = 600.0,
    status: Annotated[bool, typer.Option("--status", help="Show how far behind it is, and read nothing.")] = False,
    spark: Annotated[
        str | None, typer.Option(metavar="MASTER", help="By Spark, there: local[2], spark://host:7077.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a source's log (Kafka, Kinesis) or queues (RabbitMQ, SQS, Pub/Sub) into raw, exactly once, until Ctrl-C.

    The positions, or the messages' ids, commit with the rows; several processes may share a topic or queue. Where it
    is says the setting that the source names, such as GRANARY_EVENTS_STREAM.
    """
    from granary.streams.loop import Limits
    from granary.streams.opening import open_stream

    settings = ready()

    def report(counts: Counts, lags: Sequence[Lag]) -> None:
        _write(settings, source, counts, lags)
        if as_json:
            print(json.dumps(_summary(counts, lags)), flush=True)
        else:
            output.line(_sentence(counts, lags))

    limits = Limits(batch_rows, batch_seconds, patience)
    if spark and not status:
        from granary.spark.streaming.job import open_spark_stream

        _run(open_spark_stream(settings, source, spark, limits, report), once=once)
        return
    reading = open_stream(settings, source, limits, report=report)
    if status:
        for words in reading.check():
            print(f"granary: {words}", file=sys.stderr)
        lags = reading.look()
        output.json(lags) if as_json else _table(lags)
        return
    _run(reading, once=once)


def _run(reading: StreamLoop | SparkStream, *, once: bool) -> None:
    """Read until a signal comes, or all that is there."""

    def end(signum: int, frame: object) -> None:
        if reading.stopping.is_set():
            raise KeyboardInterrupt
        reading.stop()  # before the word, upon which a second signal may come at once
        print(SECOND_SIGNAL_ENDS, file=sys.stderr)

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, end)
    reading.run(once=once)


def serve_webhooks(
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8787,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest body of a request.")] = 1_048_576,
) -> None:
    """Take signed events by POST /SOURCE/TABLE; a 202 means that they are in the warehouse. Ctrl-C ends it."""
    from granary.streams.webhooks import serve

    settings = ready()
    try:
        serve(settings, host, port, lambda url: output.line(f"Webhooks at {url}/<source>/<table>"), max_bytes)
    except KeyboardInterrupt:
        output.line("The webhooks are closed.")


def replay(
    what: Annotated[str, typer.Argument(metavar="SOURCE[.TABLE]", help="What to rebuild everything downstream of.")],
    as_json: AsJson = False,
) -> None:
    """Rebuild everything downstream of a source from raw, and test it; nothing is read from outside.

    Raw and the snapshots stay as they are. The marts are the same afterwards, unless a model has changed.
    """
    from granary.dbt.rebuild import replay as rebuild
    from granary.sources.select import select
    from granary.tiering import needed, run

    select([what])
    source, _, table = what.partition(".")
    settings = ready()
    back: list[str] = []

    def helped(problems: list[Problem]) -> bool:
        came = needed.brought_back(settings, problems, say=lambda words: print(f"granary: {words}", file=sys.stderr))
        back.extend(came)
        return bool(came)

    done = rebuild(settings, source, table or None, helped=helped)
    for error in run.moved_again(settings, sorted(set(back))):
        log.report(error)
    if as_json:
        output.json(done)
    else:
        output.line(
            f"{'Rebuilt' if done.success else 'Failed after'} {', '.join(done.relations) or 'nothing'}:"
            f" {done.tests_passed} tests passed, {done.seconds:.1f} s"
        )
        for problem in done.failures:
            print(problem, file=sys.stderr)
    if not done.success:
        raise typer.Exit(1)


def _summary(counts: Counts, lags: Sequence[Lag]) -> dict[str, Any]:
    return {**dataclasses.asdict(counts), "lag": [dataclasses.asdict(lag) for lag in lags]}


def _sentence(counts: Counts, lags: Sequence[Lag]) -> str:
    waiting = sum(lag.messages or 0 for lag in lags)
    seconds = max((lag.seconds for lag in lags), default=0.0)
    return (
        f"{plural(counts.rows_loaded, 'row')} in {plural(counts.batches, 'batch')},"
        f" {counts.rows_quarantined:,} refused; {waiting:,} waiting, {seconds:.1f} s behind"
    )


def _table(lags: Sequence[Lag]) -> None:
    rows = [
        (
            lag.partition,
            lag.position or "not begun",
            "?" if lag.messages is None else f"{lag.messages:,}",
            f"{lag.seconds:.1f}",
        )
        for lag in lags
    ]
    output.table("How far behind", ("partition", "position", "messages", "seconds"), rows)


def _write(settings: Settings, source: str, counts: Counts, lags: Sequence[Lag]) -> None:
    """Append the counts and the lag to the stream's log; a log that cannot be written stops nothing."""
    log.append(settings.home / "logs" / f"stream-{source}.log", _summary(counts, lags))
