"""What Prometheus reads: each value worked out from planted records, without a right too many and without waiting."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from granary.load.declared_tables import keep_objectives
from granary.monitoring import exposition
from granary.monitoring.families import FAMILIES, HISTOGRAMS, metrics
from granary.warehouse import run_ledger
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Lag, recorded
from granary.warehouse.steps import Step
from tests.python.support.command import granary
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

    Make = Callable[[str], Settings]
    Sample = Callable[..., float | None]

FOLDER = Path(exposition.__file__).parent
LOAD = (
    "insert into ops.load_audit (load_id, run_id, source, table_name, unit, status, rows_read, rows_loaded,"
    " rows_quarantined, rows_deleted, bytes, seconds, data_at, started_at, finished_at) values"
    " ({id}, '', 'shop', 'orders', 'u{id}', 'loaded', 100, {good}, {bad}, 0, 1000, 10,"
    " now() - interval '500 seconds', now() - interval '{began} seconds', now() - interval '{began} seconds')"
)
PUBLISH = (
    "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
    " rows_deleted, last_date, loads_seen) values ('marts', 'i', now() - interval '110 seconds',"
    " now() - interval '100 seconds', '{fct}', 4, 3, '2026-03-01', '{\"shop\": 2}')"
)
REFUSED = (
    "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason, payload,"
    " contract_version) select n::text, 1, 'shop', 'orders', 'u1', n, 'c', 'r', '{\"name\": \"Ada\"}', 1"
    " from generate_series(1, 10) as n"
)


@pytest.fixture(scope="module")
def planted(make_warehouse: Make) -> Settings:
    """A warehouse with two loads, their publish, four checks of which one fails, a run, a stream, a slot, a backup."""
    settings = make_warehouse("metrics")
    with connect(settings) as connection:
        for statement in (
            LOAD.format(id=1, good=90, bad=10, began=102),
            LOAD.format(id=2, good=100, bad=0, began=400),
            PUBLISH,
            REFUSED,
            "insert into ops.backup_state (place, every_seconds, drill_seconds, log_at)"
            " values ('/mnt', 86400, 604800, now() - interval '20 seconds')",
            "insert into ops.backups (kind, name, place, started_at, finished_at, succeeded, byte_count)"
            " select kind, 'x', '/mnt', now() - interval '75 seconds', now() - interval '60 seconds', true, 5000"
            " from unnest(array['full', 'drill']) as kind",
            "insert into ops.twin_state (copy, publish_id, seen_at) values ('twin', 0, now())",
            "insert into ops.table_sizes values (current_date - 10, 'ops.load_audit', 1000, 1)",
            "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail)"
            " values (1, 'shop', 'orders', 'c', 'added', 'text')",
        ):
            execute(connection, statement)
        connection.commit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("granary.load.declared_tables.SOURCES", {"shop": Shop().source(table())})
        keep_objectives(settings)
    taken = [Step("i", "test", f"t{number}", "raw_shop.orders", False, 0.1, 0) for number in (1, 2, 3)]
    taken.append(Step("i", "test", "t4", "raw_shop.orders", False, 0.1, 5, status="failed", cpu_seconds=0.1))
    taken += [Step(f"r{seconds}", "model", "fct", "build.fct", False, seconds, 1_000_000) for seconds in (1, 2, 9)]
    lags = [Lag("events", "stream", "clicks[0]", 12, None, 3.5), Lag("erp", "slot", "granary_erp", None, 4096, 60.0)]
    run_ledger.keep(settings, (), taken, lags)
    with recorded(settings, "load", "shop"):
        pass
    return settings


@pytest.fixture(scope="module")
def sample(planted: Settings) -> Sample:
    """Return a function that returns a sample's value, of one scrape."""
    found = {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(exposition.text(planted))
        for one in family.samples
    }

    def of(name: str, /, **labels: str) -> float | None:
        return found.get((name, frozenset(labels.items())))

    return of


def test_there_are_at_least_forty_metrics_and_each_has_a_sample(planted: Settings) -> None:
    families = {one.name: one for one in text_string_to_metric_families(exposition.text(planted))}
    assert len(metrics()) >= 40
    assert families.keys() == metrics().keys()
    assert [name for name, family in families.items() if not family.samples] == []


def test_pipelines_are_told_by_name_and_stage(sample: Sample) -> None:
    load = {"pipeline_name": "shop", "stage": "load"}
    assert sample("pipeline_throughput", **load) == 9.5  # 190 rows in 20 seconds
    assert sample("pipeline_success_ratio", **load) == 1
    assert sample("pipeline_rows", **load) == 190
    assert sample("pipeline_bytes", **load) == 2000
    assert sample("pipeline_success_ratio", pipeline_name="dbt", stage="test") == 0.75
    assert sample("pipeline_failures", pipeline_name="dbt", stage="test") == 1
    assert sample("pipeline_duration_seconds", pipeline_name="dbt", stage="build", percentile="50") == 2


def test_latency_is_a_histogram_up_to_five_minutes(sample: Sample) -> None:
    """Published 100 s ago: load 1 began 2 s before that, load 2 300 s before."""
    counts = {
        bound: sample("pipeline_latency_bucket", pipeline_name="shop", le=bound)
        for bound in ("1.0", "5.0", "10.0", "30.0", "60.0", "300.0", "+Inf")
    }
    assert counts == {"1.0": 0, "5.0": 1, "10.0": 1, "30.0": 1, "60.0": 1, "300.0": 2, "+Inf": 2}
    assert sample("pipeline_latency_sum", pipeline_name="shop") == pytest.approx(302)
    assert sample("granary_event_latency_seconds", pipeline_name="shop", percentile="50") == pytest.approx(400)


def test_quality_is_a_histogram_over_tables_and_a_score_of_each(sample: Sample) -> None:
    labels = {"relation": "raw_shop.orders", "source": "shop", "owner": "shop"}
    assert sample("granary_table_quality_score", **labels) == pytest.approx(0.95 * 0.75)
    assert sample("granary_table_accepted_rows_ratio", **labels) == pytest.approx(0.95)
    assert sample("granary_table_failed_checks", **labels) == 1
    counts = [sample("data_quality_score_bucket", source="shop", le=le) for le in ("0.8", "0.9", "0.95", "0.99", "1.0")]
    assert counts == [1, 1, 1, 1, 1]


def test_freshness_quarantine_lag_publish_cost_and_size_are_told(sample: Sample) -> None:
    orders = {"source": "shop", "table": "orders"}
    assert sample("granary_source_freshness_objective_seconds", **orders) == 86_400
    assert sample("granary_source_late", **orders) == 0
    assert sample("granary_source_new_load_age_seconds", **orders) == pytest.approx(102, abs=60)
    assert sample("granary_source_data_age_seconds", **orders) == pytest.approx(500, abs=60)
    assert sample("granary_quarantine_rows", status="open", **orders) == 10
    assert sample("granary_stream_lag_messages", source="events", partition="clicks[0]") == 12
    assert sample("granary_slot_lag_bytes", source="erp", slot="granary_erp") == 4096
    assert sample("granary_publish_last_rows") == 7
    assert sample("granary_publish_last_duration_seconds") == 10
    assert sample("granary_published_business_date_timestamp_seconds") == 1_772_323_200  # 2026-03-01 00:00 UTC
    assert sample("granary_step_seconds_per_million_rows", name="fct", kind="model") == 4
    assert sample("granary_step_last_duration_seconds", name="fct", kind="model") is not None
    assert (sample("granary_table_size_bytes", relation="ops.load_audit") or 0) > 0
    assert sample("granary_run_last_succeeded", kind="load", name="shop") == 1
    assert (sample("granary_up"), sample("granary_scrape_errors")) == (1, 0)


def test_it_reads_as_a_role_that_may_read_nothing_else(planted: Settings) -> None:
    with connect(planted, role="monitor") as connection:
        for relation in ("ops.load_audit", "ops.quarantine", "ops.runs", "ops.steps", "ops.erasures", "ops.activities"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                query(connection, f"select 1 from {relation}")
            connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(connection, "create table public.mine (n integer)")
        connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(connection, "insert into ops.lags values ('a', 'slot', 'b')")
    assert "Ada" not in exposition.text(planted)


def test_a_scrape_during_a_publish_does_not_wait(planted: Settings) -> None:
    """A publish writes its records and holds the marts; what it has not committed is not told."""
    with connect(planted) as publishing:
        execute(publishing, "create schema if not exists marts")
        execute(publishing, "create table if not exists marts.fct (n integer)")
        publishing.commit()
        execute(publishing, "lock table marts.fct in access exclusive mode")
        execute(publishing, "delete from ops.unpublished")
        execute(publishing, PUBLISH)
        found = exposition.text(planted)
        publishing.rollback()
    assert "\ngranary_scrape_errors 0.0\n" in found
    assert "\ngranary_publish_last_rows 7.0\n" in found


def test_what_is_locked_is_left_out_and_counted(planted: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with connect(planted) as other:
        execute(other, "lock table ops.lags in access exclusive mode")
        found = exposition.text(planted)
        other.rollback()
    assert "\ngranary_scrape_errors 2.0\n" in found  # of streams, and of slots
    assert "\ngranary_up 1.0\n" in found
    assert "warning: metrics are left out" in capfd.readouterr().err


@pytest.fixture
def served(planted: Settings) -> Iterator[str]:
    server, thread = exposition.serve(planted, 0)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_they_are_served_on_loopback(served: str) -> None:
    with urllib.request.urlopen(served) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b"\npipeline_throughput{" in answer.read()
    port = urlsplit(served).port
    assert port
    with pytest.raises(GranaryError, match=f"port {port} cannot be opened"):
        exposition.serve(None, port)  # type: ignore[arg-type]


def test_a_file_for_the_node_exporter_is_written_whole(planted: Settings, tmp_path: Path) -> None:
    path = tmp_path / "granary.prom"
    exposition.write(planted, path)
    assert [one.name for one in tmp_path.iterdir()] == ["granary.prom"]
    assert {one.name for one in text_string_to_metric_families(path.read_text())} == metrics().keys()
    with pytest.raises(GranaryError, match="the metrics cannot be written"):
        exposition.write(planted, tmp_path / "nowhere" / "granary.prom")


def test_a_warehouse_that_is_down_is_told(planted: Settings, tmp_path: Path) -> None:
    found = exposition.text(replace(planted, host=str(tmp_path), external=False))
    assert "\ngranary_up 0.0\n" in found
    assert "pipeline_throughput" not in found


NAME = re.compile(r"\b(?:granary|pipeline|data_quality)_[a-z_]+")
WORDS = re.compile(r"\{[^}]*\}|\b(?:by|without|ignoring|on) \([^)]*\)")


def asked(expression: str) -> set[str]:
    """Return the metrics that a query names, of histograms without their suffix."""
    of_histograms = {f"{one.name}{end}": one.name for one in HISTOGRAMS for end in ("_bucket", "_count", "_sum")}
    return {of_histograms.get(name, name) for name in NAME.findall(WORDS.sub("", expression))}


def queries() -> dict[str, str]:
    """Return every query of the dashboard and the rules, by where it stands."""
    board = json.loads((FOLDER / "dashboards" / "granary.json").read_text())
    found = {f"{p['title']} {t['refId']}": t["expr"] for p in board["panels"] for t in p.get("targets", ())}
    groups = yaml.safe_load((FOLDER / "rules" / "granary.yml").read_text())["groups"]
    return found | {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.mark.parametrize("where", queries())
def test_each_query_of_dashboard_and_rules_asks_for_metrics_that_there_are(where: str) -> None:
    names = asked(queries()[where])
    assert names
    assert names <= metrics().keys()


def test_each_label_of_a_query_is_one_of_its_metric() -> None:
    labels = {gauge.name: set(family.labels) for family in FAMILIES for gauge in family.gauges}
    labels |= {one.name: {*one.labels, "le"} for one in HISTOGRAMS}
    for where, expression in queries().items():
        for name, inside in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
            (metric,) = asked(name)
            assert set(re.findall(r"(\w+)=", inside)) <= labels[metric], where


def test_the_page_names_every_metric_with_its_meaning() -> None:
    page = (Path(__file__).parents[4] / "docs" / "engine" / "monitoring.md").read_text()
    told = dict(re.findall(r"^\| `([a-z_]+)` \| [^|]* \| (.*) \|$", page, re.MULTILINE))
    assert told == metrics()


def test_the_command_prints_them_and_says_where_rules_and_dashboard_are(planted: Settings, tmp_path: Path) -> None:
    printed = granary(planted, "metrics").stdout
    assert {one.name for one in text_string_to_metric_families(printed)} == metrics().keys()
    named = [Path(line) for line in granary(planted, "metrics", "--rules").stdout.split()]
    assert [(path.name, path.is_file()) for path in named] == [("granary.json", True), ("granary.yml", True)]
    both = granary(planted, "metrics", "--serve", "--textfile", str(tmp_path / "x"))
    assert (both.returncode, both.stderr) == (
        2,
        "granary: --serve, --textfile and --rules exclude each other; give one of them\n",
    )
