"""Who may do what with every table, what people see of personal data, and that none of it comes out without a tier."""

from __future__ import annotations

import json
import shutil
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from dbt.cli.main import dbtRunner

from dashboards import PAGES
from granary.dbt.lineage import column_lineage
from granary.dbt.tiers import is_masked, tier
from granary.pages.dashboard.overview import overview
from granary.pages.dashboard.read import read
from granary.pages.profiles.page import write_page
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import PROJECT
from granary.warehouse.roles import ROLES
from tests.python.support.command import granary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.python.project.pipeline.conftest import Pipeline

CANARY = 909090909
"""The planted household; its personal values all begin with the word."""
WORD = "canary"

TRIES = {
    "s": "select 1 from {t} where false",
    "S": "select * from {t} where false",
    "I": "insert into {t} default values",
    "U": "update {t} set {c} = null where false",
    "D": "delete from {t} where false",
    "T": "truncate {t}",
}
"""Each privilege, by what one needs it for; `s` is only some columns."""
EVERYTHING = "SIUDT"

MAY: dict[str, dict[str, str]] = {
    "raw_*": {"loader": EVERYTHING, "transformer": "S"},
    "staging.*": {"transformer": "S"},
    "snapshots.*": {"transformer": EVERYTHING},
    # What metrics are made of that is no mart.
    "intermediate.int_campaigns__contacts": {
        "transformer": EVERYTHING,
        "analyst": "S",
        "analyst_pii": "S",
        "auditor": "S",
    },
    "intermediate.int_households__months": {
        "transformer": EVERYTHING,
        "analyst": "S",
        "analyst_pii": "S",
        "auditor": "S",
    },
    "intermediate.*": {"transformer": EVERYTHING},
    "build.*": {"transformer": EVERYTHING},
    "marts.*": {"transformer": EVERYTHING, "analyst": "S", "analyst_pii": "S", "auditor": "S"},
    "personal.*": {"transformer": EVERYTHING, "analyst_pii": "S"},
    "publish_history.*": {"transformer": EVERYTHING},
    "ops.load_audit": {"loader": "SIU", "transformer": "S", "auditor": "S"},
    "ops.raw_tables": {"loader": "SIUD", "transformer": "S", "auditor": "S"},
    "ops.files_not_loaded": {"loader": "SIU", "transformer": "S", "auditor": "S"},
    "ops.freshness": {"loader": "S", "transformer": "S", "auditor": "S"},
    "ops.watermarks": {"loader": "SIUD", "transformer": "S", "auditor": "S"},
    "ops.known_messages": {"loader": "SID", "transformer": "S", "auditor": "S"},
    "ops.quarantine": {"loader": "SIUD", "transformer": "S", "auditor": "s"},
    "ops.schema_changes": {"loader": "SIU", "transformer": "S", "auditor": "S"},
    "ops.profiles": {"transformer": "SI", "auditor": "S"},
    "ops.model_watermarks": {"transformer": "SIUD", "auditor": "S"},
    "ops.whole_builds": {"transformer": "SIUD", "auditor": "S"},
    "ops.model_versions": {"transformer": "SIUD", "auditor": "S"},
    "ops.model_states": {"transformer": "SIUD", "auditor": "S"},
    "ops.steps": {"loader": "SIU", "transformer": "SIU", "auditor": "S"},
    "ops.runs": {"loader": "SIU", "transformer": "SIU", "auditor": "S"},
    "ops.objectives": {"loader": "SIU", "transformer": "SIU", "auditor": "S"},
    "ops.lags": {"loader": "SIUD", "transformer": "SIU", "auditor": "S", "monitor": "S"},
    "ops.table_sizes": {"loader": "SIU", "transformer": "SIU", "auditor": "S"},
    "ops.signals": {"loader": "SIUD", "transformer": "SIUD", "auditor": "S"},
    "ops.incidents": {"transformer": "S", "auditor": "S"},
    "ops.alerts": {"transformer": "S", "auditor": "S"},
    "ops.backups": {"transformer": "S", "auditor": "S"},
    "ops.backup_state": {"transformer": "S", "auditor": "S"},
    "ops.twin_state": {"transformer": "SIUD", "auditor": "S"},
    "ops.twin_lag": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.deliveries": {"transformer": "S", "auditor": "S"},
    "ops.delivery_batches": {"transformer": "S", "auditor": "S"},
    "ops.delivered_rows": {"transformer": "S", "auditor": "s"},
    "ops.exports": {"transformer": "S", "auditor": "S"},
    "ops.archives": {"loader": "SIUD", "transformer": "S", "auditor": "S"},
    "ops.backup_health": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.activities": {"transformer": "S", "auditor": "S"},
    "ops.stage_performance": {"transformer": "S", "auditor": "S"},
    "ops.load_latency": {"transformer": "S", "auditor": "S"},
    "ops.source_latency": {"transformer": "S", "auditor": "S"},
    "ops.stage_performance_now": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.latency_now": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.run_states": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.source_freshness": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.quality_scores": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.quarantine_state": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.shape_changes": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.publish_state": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.storage_growth": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.model_costs": {"transformer": "S", "auditor": "S", "monitor": "S"},
    "ops.observations": {"loader": "SIUD", "transformer": "S", "auditor": "S"},
    "ops.anomalies": {"loader": "SIUD", "transformer": "S", "auditor": "S"},
    "ops.locks": {"loader": "SIU", "transformer": "SIU", "auditor": "S"},
    "ops.migrations": {"transformer": "S", "auditor": "S"},
    "ops.audit_trail": {"transformer": "S", "auditor": "S"},
    "ops.views_down": {"transformer": "S", "auditor": "S"},
    "ops.erasures": {"loader": "S", "transformer": "S", "auditor": "S"},
    "ops.erased_rows": {"transformer": "S", "auditor": "S"},
    "ops.rows_gone": {"transformer": "S", "auditor": "S"},
    "ops.erased_totals": {"transformer": "S", "auditor": "S"},
    "ops.erased_months": {"transformer": "S", "auditor": "S"},
    # What dbt keeps of its own work.
    "ops.model_audits": {"transformer": "SIUD", "auditor": "S"},
    "ops.unpublished": {"transformer": "SIUD", "auditor": "S"},
    "ops.publish_holds": {"transformer": "SIUD", "auditor": "S"},
    "ops.builds": {"transformer": "SIUD", "auditor": "S"},
    "ops.publishes": {"transformer": "SIUD", "auditor": "S"},
    "ops.published_months": {"transformer": "SIUD", "auditor": "S"},
    "ops.published_marts": {"transformer": "SIUD", "auditor": "S"},
    "ops.load_health": {"transformer": "S", "auditor": "S"},
    "ops.restatements": {"transformer": "S", "auditor": "S"},
}
"""What each role may do with which relations, by name or pattern. One that is not here fails the test: whoever adds a
relation has to say who may do what with it."""

MAY_CREATE = {
    "raw_*": {"loader"},
    "public": set[str](),
    "ops": {"transformer"},
    "*": {"transformer"},
}
"""Who may create tables in a schema; the first pattern counts."""

RELATIONS = """
select n.nspname || '.' || c.relname, c.relkind::text, (
    select quote_ident(a.attname) from pg_attribute as a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attidentity <> 'a' order by a.attnum limit 1
)
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by 1
"""


@pytest.fixture(scope="module", autouse=True)
def planted(pipeline: Pipeline) -> None:
    """A household with unmistakable values arrives in raw, becomes history, is built and published; one is refused."""
    values = ", ".join(f"'{WORD} {name}'" for name in ("age", "income", "home", "marital", "size", "comp", "kids"))
    pipeline.day(date(2017, 1, 20))
    pipeline.execute(
        "insert into raw_crm.households (household_id, age, income, home_ownership, marital_status, household_size,"
        " household_comp, kids_count, updated_at, _load_id, _row)"
        f" select {CANARY}, {values}, max(updated_at), max(_load_id), max(_row) + 1 from raw_crm.households",
        "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
        " payload, contract_version)"
        " select 'x', max(_load_id), 'crm', 'households', 'u', 1, 'kids_count', 'is too long',"
        f" jsonb_build_object('age', '{WORD} refused'), 1 from raw_crm.households",
    )
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    for table in ("raw_crm.households", "staging.stg_crm__households", "marts.dim_household", "personal.dim_household"):
        assert granary(pipeline.settings, "profile", table).returncode == 0
    with connect(pipeline.settings, autocommit=True) as connection:
        execute(connection, "analyze")


def matching(patterns: Mapping[str, Any], name: str) -> Any:
    """Return what the first pattern says that fits; None if there is none."""
    return next((said for pattern, said in patterns.items() if fnmatchcase(name, pattern)), None)


def may(connection: Any, sql: str) -> bool:
    """Whether the server lets the role of the connection do it; what rows forbid is not a matter of roles."""
    try:
        with connection.transaction(force_rollback=True):
            execute(connection, sql)
    except (psycopg.errors.IntegrityError, psycopg.errors.FeatureNotSupported):
        return True
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType):
        return False
    except psycopg.errors.ObjectNotInPrerequisiteState:  # a view that nobody can write to
        return False
    return True


def test_each_role_may_do_exactly_this_with_each_table(pipeline: Pipeline) -> None:
    relations = pipeline.query(RELATIONS)
    assert len(relations) > 100
    assert [name for name, _, _ in relations if matching(MAY, name) is None] == []
    wrong = []
    for role in ROLES:
        with connect(pipeline.settings, role=role) as connection:
            for name, kind, column in relations:
                expected = matching(MAY, name).get(role, "")
                if kind == "v":
                    # Its owner may write to a view where Postgres can; what stands behind it is what has been tried.
                    expected, tries = "S" if "S" in expected else expected, "sS" if role == "transformer" else "sSIUD"
                else:
                    tries = "sSIUDT"
                found = {one for one in tries if may(connection, TRIES[one].format(t=name, c=column))}
                found -= {"s"} if "S" in found else set()
                if found != set(expected):
                    wrong.append(f"{role} {name}: {''.join(sorted(found))}, expected {expected}")
    assert wrong == []


def test_each_role_may_create_only_there(pipeline: Pipeline) -> None:
    schemas = [
        str(name)
        for (name,) in pipeline.query(
            "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1"
        )
    ]
    assert {"raw_pos", "staging", "marts", "personal", "ops", "public"} <= set(schemas)
    for role in ROLES:
        with connect(pipeline.settings, role=role) as connection:
            found = {name for name in schemas if may(connection, f"create table {name}.granary_try (n int)")}
            assert found == {name for name in schemas if role in matching(MAY_CREATE, name)}, role
            writes = role in ("loader", "transformer")
            assert may(connection, "create schema granary_try") is writes, role
            assert may(connection, "create temporary table granary_try (n int)") is writes, role
            assert may(connection, "select nextval('ops.load_id')") is (role == "loader"), role
            assert not may(connection, "create role granary_try")
            assert not may(connection, "select * from pg_authid")
            assert not may(connection, "copy ops.load_audit to program 'true'")


def selectable(connection: Any) -> Iterator[tuple[str, str]]:
    """Yield what the role of the connection can read: relations, each with a text of all columns that it may read."""
    relations = query(
        connection,
        "select n.nspname, c.relname from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'pg_toast' order by 1, 2",
    )
    for schema, name in relations:
        if not query(connection, "select has_schema_privilege($1, 'usage')", schema)[0][0]:
            continue
        columns = query(
            connection,
            "select quote_ident(attname) from pg_attribute "
            " where attrelid = format('%I.%I', $1::text, $2::text)::regclass"
            " and attnum > 0 and not attisdropped and has_column_privilege(attrelid, attnum, 'select')",
            schema,
            name,
        )
        if columns:
            texts = ", ".join(f"{column}::text" for (column,) in columns)
            yield f"{schema}.{name}", f"concat_ws(' ', {texts})"


def sightings(pipeline: Pipeline, role: str) -> set[str]:
    """Return where the role can see a value of the canary: tables, views, catalogues, comments, statistics."""
    found = set()
    with connect(pipeline.settings, role=role, autocommit=True) as connection:
        for relation, text in selectable(connection):
            # A parameter, since pg_stat_activity shows the query itself.
            sql = f"select 1 from {relation} where {text} like '%' || $1::text || '%' limit 1"
            try:
                if query(connection, sql, WORD):
                    found.add(relation)
            except psycopg.errors.InsufficientPrivilege:  # a view of the catalogue with a function for administrators
                assert relation.startswith("pg_catalog."), relation
    return found


def test_nobody_without_the_role_sees_a_personal_value(pipeline: Pipeline) -> None:
    assert sightings(pipeline, "analyst") == set()
    assert sightings(pipeline, "auditor") == set()
    assert sightings(pipeline, "analyst_pii") == {
        "marts.dim_household",
        "personal.dim_household",
        "pg_catalog.pg_stats",
    }
    assert {"raw_crm.households", "snapshots.snap_crm__households", "ops.quarantine"} <= sightings(
        pipeline, "transformer"
    )


def test_no_page_and_no_list_has_a_personal_value(pipeline: Pipeline, tmp_path: Path) -> None:
    """What the dashboard and the overview read, by whichever role, the page of profiles, and what commands list."""
    with pipeline.at_hand():
        for page in (*PAGES, overview()):
            found = read(pipeline.settings, page.datasets, lambda _: None)
            assert found
            assert WORD not in json.dumps([one.rows for one in found.values()], default=str), page.name
        profiles = write_page(pipeline.settings, tmp_path).read_text()
    assert "raw_crm.households" in profiles
    assert WORD not in profiles
    for words in (("quarantine", "list"), ("quarantine", "list", "--json"), ("profile", "ops.quarantine", "--json")):
        done = granary(pipeline.settings, *words)
        assert done.returncode == 0, done.stderr
        assert "kids_count" in done.stdout
        assert WORD not in done.stdout + done.stderr


def test_what_is_masked_counts_and_what_is_unknown_stays_unknown(pipeline: Pipeline) -> None:
    """Seven households and the canary: what the owner counts as known, an analyst counts as masked."""
    sql = "select household_id, age_range, kids_count, has_demographics from marts.dim_household"
    sql += " where is_current order by household_id"
    seen = {}
    for role in ("analyst", "analyst_pii", "transformer"):
        with connect(pipeline.settings, role=role) as connection:
            seen[role] = query(connection, sql)
    assert seen["analyst_pii"] == seen["transformer"]
    assert seen["transformer"][-1] == (CANARY, f"{WORD} age", f"{WORD} kids", True)
    assert seen["analyst"][-1] == (CANARY, "masked", "masked", True)
    masked = [(one, age and "masked", kids and "masked", has) for one, age, kids, has in seen["transformer"]]
    assert seen["analyst"] == masked
    assert (CANARY, None) not in [row[:2] for row in masked]
    assert any(age is None for _, age, _, _ in masked)


def test_what_stops_a_run_when_a_mask_is_gone(pipeline: Pipeline) -> None:
    """The data test of it finds a view without the mask, a grant on what is behind it, and a door that is open."""
    results = pipeline.dbt("compile", "--select", "analysts_see_no_personal_column")
    compiled = results["analysts_see_no_personal_column"].node.compiled_code
    columns = ", ".join(catalogue(pipeline)["marts.dim_household"])
    faults = {
        f"create or replace view marts.dim_household as select {columns} from personal.dim_household": "has no mask",
        "grant select (age_range) on personal.dim_household to auditor": "reads what is behind a mask",
        "grant usage on schema personal to analyst": "enters a closed schema",
        "grant usage on schema build to auditor": "enters a closed schema",
    }
    with connect(pipeline.settings, role="transformer") as connection:
        assert query(connection, compiled) == []
        for fault, words in faults.items():
            execute(connection, fault)
            assert {row[0] for row in query(connection, compiled)} == {words}, fault
            connection.rollback()
            execute(connection, "set role transformer")


def test_a_view_of_an_analyst_shows_each_reader_what_they_may_see(pipeline: Pipeline) -> None:
    pipeline.execute(
        "create schema desk authorization analyst",
        "set role analyst",
        "create view desk.ages as select household_id, age_range from marts.dim_household where is_current",
        "grant usage on schema desk to auditor",
        "grant select on desk.ages to auditor",
        "reset role",
    )
    ages = f"select age_range from desk.ages where household_id = {CANARY}"
    try:
        for role, age in (("analyst", "masked"), ("auditor", "masked"), ("analyst_pii", f"{WORD} age")):
            with connect(pipeline.settings, role=role) as connection:
                assert query(connection, ages) == [(age,)]
        view = "select oid::bigint, xmin::text from pg_class where oid = 'marts.dim_household'::regclass"
        before = pipeline.query(view)
        # The tier changes, and is changed back: the view says something else, and what stands on it stays.
        tiers = "{personal_tiers: {identifier: mask, demographic: show, pseudonym: show}}"
        pipeline.dbt("run", "--select", "dim_household", "--vars", tiers)
        assert pipeline.query(view)[0][0] == before[0][0]
        assert sightings(pipeline, "analyst") == {"marts.dim_household", "desk.ages"}
        pipeline.dbt("run", "--select", "dim_household")
        assert sightings(pipeline, "analyst") == set()
        # Nothing to say: the view is not even replaced.
        last = pipeline.query(view)
        pipeline.dbt("run", "--select", "dim_household")
        assert pipeline.query(view) == last
    finally:
        pipeline.execute("drop schema desk cascade")


def test_columns_come_and_go_behind_the_view(pipeline: Pipeline) -> None:
    """With a view on it a mart gets columns more; without one it is replaced; both times the masks stay."""
    publish = (
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'dim_household', 'by hand')"
    )
    pipeline.execute(
        "create schema desk authorization analyst",
        "set role analyst",
        "create view desk.ages as select household_id, age_range from marts.dim_household",
        "reset role",
        "alter table build.dim_household add column region text",
        "update build.dim_household set region = 'N'",
        publish,
    )
    pipeline.dbt("run-operation", "publish")
    regions = "select region, count(*) filter (where age_range = 'masked') > 0 from marts.dim_household group by region"
    with connect(pipeline.settings, role="analyst") as connection:
        assert query(connection, regions) == [("N", True)]
    pipeline.execute("alter table build.dim_household drop column region", publish)
    pipeline.dbt("run-operation", "publish", succeeds=False)
    pipeline.execute("drop schema desk cascade")
    pipeline.dbt("run-operation", "publish")
    with connect(pipeline.settings, role="analyst") as connection, pytest.raises(psycopg.errors.UndefinedColumn):
        query(connection, regions)
    assert sightings(pipeline, "analyst") == sightings(pipeline, "auditor") == set()
    assert "marts.dim_household" in sightings(pipeline, "analyst_pii")


def test_a_table_from_before_goes_behind_a_view(pipeline: Pipeline) -> None:
    """An older warehouse: `marts.dim_household` is a table; analysts read some columns of it and have a view."""
    pipeline.execute(
        "drop view marts.dim_household",
        "set role transformer",
        "alter table personal.dim_household set schema marts",
        "revoke all on marts.dim_household from analyst_pii",
        "grant select (household_id, is_current) on marts.dim_household to analyst",
        "reset role",
        "drop schema personal",
        "create schema desk authorization analyst",
        "set role analyst",
        "create view desk.households as select household_id from marts.dim_household where is_current",
        "reset role",
    )
    count = "select count(*) from marts.dim_household"
    rows = pipeline.query(count)
    assert (
        "nothing was published: marts.dim_household becomes a view that masks personal data, and desk.households"
        " depends on it. Drop it, run again and create it anew"
    ) in pipeline.said("run", "--select", "dim_household", succeeds=False)
    pipeline.execute("drop schema desk cascade")
    pipeline.dbt("run-operation", "publish")
    assert pipeline.query(count) == rows
    assert sightings(pipeline, "analyst") == sightings(pipeline, "auditor") == set()
    assert "marts.dim_household" in sightings(pipeline, "analyst_pii")
    held = (
        "select count(*) from pg_attribute where attrelid = 'personal.dim_household'::regclass and attacl is not null"
    )
    assert pipeline.query(held) == [(0,)]
    assert pipeline.query(
        "select rows_inserted::int, rows_deleted::int from ops.publishes order by publish_id desc limit 1"
    ) == [(0, 0)]


def without_tier(manifest: Mapping[str, Any], columns: Mapping[str, dict[str, str]], only: str = "") -> list[str]:
    """Return the columns that are made from a masked column of a parent and have neither a tier nor a reason for none.

    Args:
        manifest: of a compiled project.
        columns: every relation of the warehouse, as `schema.name`, with its columns' types.
        only: the one model to look at.
    """
    declared = {
        f"{node['schema']}.{node.get('identifier') or node.get('alias')}": node["columns"]
        for node in (*manifest["nodes"].values(), *manifest["sources"].values())
        if node["resource_type"] in ("model", "seed", "snapshot", "source")
    }
    found = []
    for node in manifest["nodes"].values():
        if node["resource_type"] not in ("model", "snapshot") or (only and node["name"] != only):
            continue
        made = column_lineage(node["compiled_code"], {name: columns[name] for name in declared if name in columns})
        assert made, node["name"]
        for name, origins in made.items():
            mine = node["columns"].get(name, {})
            if tier(mine) or mine.get("config", {}).get("meta", {}).get("not_personal"):
                continue
            for relation, column in origins:
                if is_masked(declared[relation].get(column, {})):
                    found.append(f"{node['name']}.{name} from {relation}.{column}")
    return found


def catalogue(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for relation, column, kind in pipeline.query(
        "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns"
        " where table_schema !~ '^pg_' and table_schema <> 'information_schema' order by 1, ordinal_position"
    ):
        found.setdefault(relation, {})[column] = kind
    return found


def run(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Run dbt on a copy of the project; return whether it succeeded, and what it said."""
    done = dbtRunner().invoke(
        [
            *arguments,
            *("--project-dir", str(folder), "--profiles-dir", str(folder), "--target-path", str(folder / "target")),
            *("--log-path", str(folder / "target"), "--log-level", "none", "--log-level-file", "info"),
        ]
    )
    return done.success, " ".join((folder / "target" / "dbt.log").read_text().split())


def test_what_is_made_of_a_personal_column_has_a_tier(pipeline: Pipeline, tmp_path: Path) -> None:
    """It holds for the project, and a mart that carries a masked column on without one is found in three ways."""
    pipeline.dbt("compile", "--write-json")
    columns = catalogue(pipeline)
    assert without_tier(json.loads((pipeline.target / "manifest.json").read_text()), columns) == []

    folder = tmp_path / "project"
    for name in ("models", "macros", "snapshots", "seeds", "tests/dbt", "dbt_packages"):
        shutil.copytree(PROJECT / name, folder / name)
    for name in ("dbt_project.yml", "profiles.yml", "packages.yml", "selectors.yml"):
        shutil.copy(PROJECT / name, folder / name)
    planted = folder / "models" / "marts" / "core" / "planted.sql"
    described = planted.with_suffix(".yml")
    yaml = "models: [{{name: planted, columns: [{{name: {}, data_type: text{}}}]}}]\n"

    # Under the same name: dbt stops before anything is built.
    planted.write_text("select age_range from {{ ref('dim_household') }}\n")
    described.write_text(yaml.format("age_range", ""))
    done, said = run(folder, "run", "--select", "planted")
    assert not done
    assert "planted.age_range comes from dim_household, where it is personal (demographic): give it" in said
    # With a tier that there is not.
    described.write_text(yaml.format("age_range", ", config: {meta: {personal: secret}}"))
    done, said = run(folder, "run", "--select", "planted")
    assert not done
    assert "planted.age_range: there is no tier of personal data secret; write one of identifier, demographic" in said
    # With the key of a data subject that there is not, of two, and of two that its parents disagree on.
    planted.write_text("select household_id from {{ ref('dim_household') }}\n")
    for subject, words in {
        "rider": "planted.household_id: there is no data subject rider in dbt_project.yml (vars: data_subjects);",
        "[household, rider]": 'planted.household_id: a column holds keys of one data subject, and not of ["household",',
    }.items():
        meta = f", config: {{meta: {{personal: pseudonym, subject: {subject}}}}}"
        described.write_text(yaml.format("household_id", meta))
        done, said = run(folder, "run", "--select", "planted")
        assert not done
        assert words in said
    project = folder / "dbt_project.yml"
    kept = project.read_text()
    project.write_text(
        kept.replace("household: {key: number}\n", "household: {key: number}\n    rider: {key: email}\n")
    )
    other = planted.with_name("other.sql")
    other.write_text("select 'ann@example.org' as household_id\n")
    entry = "- {{name: {}, columns: [{{name: household_id, data_type: text, config: {{meta: {{personal: {}}}}}}}]}}\n"
    described.write_text(
        "models:\n"
        + entry.format("planted", "pseudonym, subject: household")
        + entry.format("other", "identifier, subject: rider")
    )
    planted.write_text(
        "select household_id::text from {{ ref('dim_household') }}\n"
        "union all select household_id from {{ ref('other') }}\n"
    )
    done, said = run(folder, "run", "--select", "planted")
    assert not done
    assert "planted.household_id comes from models where it is a key of " in said
    assert ": give each a column of its own" in said
    other.unlink()
    project.write_text(kept)
    # Renamed: the lineage of its SQL tells, and once it is published anyway, so does the canary.
    planted.write_text("select age_range || '!' as years from {{ ref('dim_household') }}\n")
    described.write_text(yaml.format("years", ""))
    assert run(folder, "run", "--select", "planted")[0]
    manifest = json.loads((folder / "target" / "manifest.json").read_text())
    found = without_tier(manifest, catalogue(pipeline), only="planted")
    assert found == ["planted.years from build.dim_household.age_range"]
    assert "marts.planted" in sightings(pipeline, "analyst")
    # With the tier that it should have had, it is masked.
    described.write_text(yaml.format("years", ", config: {meta: {personal: demographic}}"))
    assert run(folder, "run", "--select", "planted")[0]
    assert sightings(pipeline, "analyst") == sightings(pipeline, "auditor") == set()
    pipeline.execute("drop view marts.planted", "drop table personal.planted, build.planted")
