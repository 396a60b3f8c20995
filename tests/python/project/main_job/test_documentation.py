"""The documentation of the whole project as `granary docs` writes it: every column's way, every mart, every link."""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from granary.cli.serve import _Quiet
from granary.dbt.column_lineage import Column, ColumnGraph, column_graph
from granary.dbt.manifest_nodes import is_mart, published
from granary.pages.docs import NAMES
from granary.pages.docs.marts import Mart, marts
from tests.python.support import diagram_page
from tests.python.support.browser import reader
from tests.python.support.command import granary

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.python.project.main_job.conftest import Year


@dataclass(frozen=True)
class Documentation:
    """The folder that was written, and what it was made from. Columns are called as people call them."""

    folder: Path
    manifest: dict[str, Any]
    graph: ColumnGraph
    marts: list[Mart]

    def column(self, name: str) -> Column:
        """Return the column that is called `schema.table.column`."""
        (found,) = (column for column in self.graph.origins if self.name(column) == name)
        return found

    def name(self, column: Column) -> str:
        node = self.manifest["nodes"].get(column.node) or self.manifest["sources"][column.node]
        return f"{published(node)}.{column.name}"

    def origins(self, name: str) -> set[str]:
        return {self.name(column) for column in self.graph.origins[self.column(name)]}


@pytest.fixture(scope="module")
def documentation(year: Year, tmp_path_factory: pytest.TempPathFactory) -> Documentation:
    """The documentation of the year, written as the command does."""
    folder = tmp_path_factory.mktemp("documentation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBT_TARGET_PATH", str(folder))
        done = granary(year.settings, "docs", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Written: {folder / 'static_index.html'}\n"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    catalog = json.loads((folder / "catalog.json").read_bytes())
    graph = column_graph(manifest, catalog)
    return Documentation(folder, manifest, graph, marts(manifest, catalog, graph))


# Read by a person in the models' SQL: each column with those that it is made from directly.
WAYS: dict[str, set[str]] = {
    "marts.daily_sales.sales_value": {"marts.fct_baskets.sales_value"},
    "marts.fct_baskets.sales_value": {"marts.fct_sales.sales_value"},
    "marts.fct_sales.sales_value": {"staging.stg_pos__transactions.sales_value"},
    "staging.stg_pos__transactions.sales_value": {"raw_pos.transactions.sales_value"},
    "marts.fct_sales.regular_value": {
        "staging.stg_pos__transactions.sales_value",
        "staging.stg_pos__transactions.retail_disc",
        "staging.stg_pos__transactions.coupon_match_disc",
    },
    "staging.stg_pos__transactions.business_date": {"raw_pos.transactions.transaction_timestamp"},
    # Through a lateral subquery, which is filtered by weeks and loads.
    "marts.fct_promotions.is_on_display": {"staging.stg_pos__promotions.display_location"},
    # Through a window that has a name: by sales, then by product.
    "marts.product_performance.sales_rank": {
        "intermediate.int_products__totals.sales_value",
        "intermediate.int_products__totals.product_id",
    },
    "snapshots.snap_crm__households.age_range": {"staging.stg_crm__households.age_range"},
    "staging.stg_crm__households.age_range": {"raw_crm.households.age"},
    "marts.daily_sales.basket_count": set(),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_column_comes_from_what_its_sql_says(documentation: Documentation, name: str) -> None:
    assert documentation.origins(name) == WAYS[name]


def test_personal_columns_are_followed_from_the_crm_to_the_marts(documentation: Documentation) -> None:
    """The ages of the CRM come into the versions of households, as they are and as known or not, and no further."""
    age = documentation.column("raw_crm.households.age")
    reached = {documentation.name(column) for column in documentation.graph.downstream(age)}
    assert {name for name in reached if name.startswith("marts.")} == {
        "marts.dim_household.age_range",
        "marts.dim_household.has_demographics",
    }


def test_every_column_is_resolved(documentation: Documentation) -> None:
    assert sorted(map(documentation.name, documentation.graph.unresolved)) == []
    assert len(documentation.graph.origins) > 800


def test_every_column_is_described(documentation: Documentation) -> None:
    nodes = {**documentation.manifest["nodes"], **documentation.manifest["sources"]}
    silent = [
        documentation.name(column)
        for column in documentation.graph.origins
        if not nodes[column.node]["columns"].get(column.name, {}).get("description")
    ]
    assert silent == []


def test_every_column_of_a_mart_is_there_and_leads_to_the_sources_or_to_nothing(documentation: Documentation) -> None:
    graph, nodes = documentation.graph, documentation.manifest["nodes"]
    told = {column for mart in documentation.marts for column in (Column(mart.id, field.name) for field in mart.fields)}
    assert told == {column for column in graph.origins if column.node in nodes and is_mart(nodes[column.node])}
    ends = {one for column in told for one in graph.upstream(column) if not graph.origins[one]}
    kinds = {(one.node.partition(".")[0], is_mart(nodes.get(one.node, {"resource_type": ""}))) for one in ends}
    assert kinds <= {("source", False), ("seed", True), ("model", True), ("model", False)}
    assert documentation.column("raw_pos.transactions.sales_value") in ends


def test_every_mart_has_a_key_and_every_fact_joins(documentation: Documentation) -> None:
    assert [mart.name for mart in documentation.marts if not mart.grain] == []
    tested = {
        (mart.name, join.column, join.mart, join.field)
        for mart in documentation.marts
        for join in mart.joins
        if not join.inherited
    }
    assert {
        ("fct_sales", "store_id", "dim_store", "store_id"),
        ("fct_sales", "business_date", "dim_date", "date_day"),
        ("fct_sales", "product_key", "dim_product", "product_key"),
        ("fct_sales", "household_key", "dim_household", "household_key"),
        ("fct_promotions", "product_id", "dim_product", "product_id"),
    } <= tested
    assert {mart.name for mart in documentation.marts if mart.is_fact} <= {name for name, *_ in tested}
    of_dbt = [
        node["name"]
        for node in documentation.manifest["nodes"].values()
        if (node.get("test_metadata") or {}).get("name") in ("relationships", "members_known")
    ]
    assert len(tested) == len(of_dbt)


def test_a_key_that_repeats_is_drawn_as_many(documentation: Documentation) -> None:
    """`product_id` is in several versions of a product, so that fct_promotions joins many rows there."""
    (promotions,) = (mart for mart in documentation.marts if mart.name == "fct_promotions")
    assert {join.mart: join.is_one for join in promotions.joins} == {"dim_product": False, "dim_store": True}


def test_the_diagram_for_code_hosts_is_of_the_same_tests(documentation: Documentation) -> None:
    made = diagram_page.diagram(documentation.manifest)
    assert diagram_page.BETWEEN.findall(diagram_page.PAGE.read_text()) == [made]
    joins = [(mart.name, join) for mart in documentation.marts if mart.is_fact for join in mart.joins]
    assert len(re.findall(r" : ", made)) == len(joins) == 15
    assert [join for name, join in joins if not re.search(f"{name} .* {join.mart} : {join.column}\n", made)] == []


def test_the_pages_are_small_and_name_nothing_outside(documentation: Documentation) -> None:
    for name in NAMES:
        page = (documentation.folder / name).read_text()
        assert len(page) < 400_000
        addresses = set(re.findall(r'(?:src|href|action)="(https?://[^/"]*)', page))
        assert addresses == {"http://127.0.0.1:3000", "http://127.0.0.1:8090"}


def test_every_link_within_the_pages_leads_somewhere(documentation: Documentation) -> None:
    page = (documentation.folder / "marts.html").read_text()
    targets = set(re.findall(r'href="([^"]*)"', page))
    names = {documentation.name(column) for column in documentation.graph.origins}
    ids = set(re.findall(r'id="([^"]*)"', page))
    for target in targets:
        file, _, fragment = target.partition("#")
        if not file:
            assert fragment in ids, target
        elif file == "lineage.html" and fragment:
            assert fragment in names, target
        elif file == "static_index.html" and fragment:
            assert fragment.partition("/")[2].partition("/")[2] in documentation.manifest["nodes"], target
        elif not file.startswith("http://127.0.0.1:"):
            assert file in {"static_index.html", "profiles.html", *NAMES}, target


def test_from_dbt_s_own_page_to_a_mart_to_a_column_and_back(documentation: Documentation, chromium: Browser) -> None:
    """As served: through the overview of dbt's page, which is drawn by its own script."""
    names = ("static_index.html", *NAMES, "profiles.html")
    handler = partial(_Quiet, names, directory=str(documentation.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
        tab = chromium.new_page()
        tab.set_default_timeout(60_000)
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(base)
        tab.click("a[href='marts.html']")
        tab.wait_for_selector("h1:has-text('Marts and how they join')")
        tab.click("table.matrix a[href='#fct_sales']")
        tab.click("#fct_sales summary")
        tab.click("#fct_sales table.fields a >> text='sales_value'")
        tab.wait_for_selector("html[data-ready='marts.fct_sales.sales_value']", state="attached")
        tab.click("#found .type a")
        tab.click("#fct_sales .links a >> text='Model, tests and SQL'")
        tab.wait_for_selector("h1:has-text('fct_sales')")
        tab.close()
        server.shutdown()
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_every_column_and_every_mart_is_drawn(documentation: Documentation, chromium: Browser, width: int) -> None:
    with reader(chromium, documentation.folder, width) as browser:
        browser.tab.goto((documentation.folder / "marts.html").as_uri())
        assert browser.tab.locator(".marts > section").count() == len(documentation.marts)
        browser.tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert browser.tab.evaluate("document.documentElement.scrollWidth") == width
        # No text of a picture is wider than its box.
        assert (
            browser.tab.evaluate(
                """() => [...document.querySelectorAll("svg.joins text")].filter((text) => {
                const [own, boxes] = [text.getBBox(), [...text.parentNode.querySelectorAll("rect")]];
                return !boxes.some((box) => { const b = box.getBBox();
                    return own.x >= b.x && own.x + own.width <= b.x + b.width && own.y >= b.y; });
            }).map((text) => text.textContent)"""
            )
            == []
        )
        browser.open("lineage", "#raw_pos.transactions.sales_value")
        assert browser.tab.evaluate("document.documentElement.scrollWidth") == width
        used = browser.tab.locator(".ways > section:last-child .ends li").all_text_contents()
        assert [one for one in used if one.startswith("marts.daily_sales")] == [
            "marts.daily_salescustomer_paidloyalty_valueregular_valuesales_value"
        ]


def test_the_documentation_is_the_environment_s_folder(documentation: Documentation) -> None:
    assert {"static_index.html", "profiles.html", *NAMES} <= set(os.listdir(documentation.folder))
