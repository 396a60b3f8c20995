"""`granary spark`: the same models on a small Spark cluster of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.spark.cluster import Cluster


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    spark = typer.Typer(help="The same models on a Spark cluster.", no_args_is_help=True)
    spark.command(epilog="Example: granary spark up && granary spark load && dbt build --target spark")(up)
    spark.command(epilog="Example: granary spark down")(down)
    spark.command(epilog="Example: granary spark status --json")(status)
    spark.command(epilog="Example: granary spark load")(load)
    spark.command(epilog="Examples: granary spark compare · granary spark compare fct_sales dim_product")(compare)
    app.add_typer(spark, name="spark")


def up() -> None:
    """Start master, two workers and a Connect server on this machine's loopback address, until `granary spark down`."""
    from granary.spark import cluster as clusters

    cluster = _cluster()
    started = clusters.up(cluster)
    output.line(f"Spark is {'started' if started else 'up'}: {cluster.folder}")
    output.line("Next: `granary spark load`, then `dbt build --target spark`.")


def down() -> None:
    """Stop the cluster; its tables stay."""
    from granary.spark import cluster as clusters

    stopped = clusters.down(_cluster())
    output.line(f"Spark has stopped ({stopped} processes)." if stopped else "Spark was not up.")


def status(as_json: AsJson = False) -> None:
    """Show the processes of the cluster with their memory; exit 1 if Spark is not up."""
    from granary.spark import cluster as clusters

    cluster = _cluster()
    found, answers = clusters.status(cluster), clusters.is_up(cluster)
    if as_json:
        output.json({"up": answers, "processes": [{"role": p.role, "pid": p.pid, "bytes": p.memory} for p in found]})
    elif found:
        rows = [(p.role, str(p.pid), f"{p.memory / 1e6:,.0f}") for p in found]
        output.table("Spark" if answers else "Spark, which does not answer", ("process", "pid", "MB"), rows)
    else:
        output.line("Spark is not up: start it with `granary spark up`.")
    if not answers:
        raise typer.Exit(1)


def load(as_json: AsJson = False) -> None:
    """Bring what the models read to Spark, as Parquet: raw tables by the loads that changed, snapshots, the ledger."""
    from granary.spark.raw import load as bring

    done = []
    for one in bring(existing(), _cluster()):
        done.append(one)
        if not as_json:
            output.line(
                f"{one.relation}: {plural(one.rows, 'row')}, {plural(one.written, 'file')} written,"
                f" {one.removed} removed"
            )
    if as_json:
        output.json([one.__dict__ for one in done])


def compare(
    marts: Annotated[list[str] | None, typer.Argument(metavar="[MART]...", help="Names; else all marts.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the published marts with Spark's, row by row, by hash; exit 1 if one differs."""
    from granary.spark.parity import compare as compared

    found = list(compared(existing(), _cluster(), marts or []))
    if as_json:
        output.json(
            [
                {
                    "mart": one.mart,
                    "postgres_rows": one.postgres[0],
                    "spark_rows": one.spark[0],
                    "is_equal": one.is_equal,
                }
                for one in found
            ]
        )
    else:
        rows = [
            (one.mart, f"{one.postgres[0]:,}", f"{one.spark[0]:,}", "equal" if one.is_equal else "differs")
            for one in found
        ]
        output.table("Marts on Postgres and Spark", ("mart", "Postgres' rows", "Spark's rows", "by row hash"), rows)
    if not all(one.is_equal for one in found):
        raise typer.Exit(1)


def _cluster() -> Cluster:
    from granary.spark.cluster import Cluster

    return Cluster.of(Settings.load())
