"""dagster-dbt, as it is where dbt-core is not installed: it has names of its own for the three that it takes of dbt.

With them come a second of imports, and a selector of dbt's that looks for the nodes that a manifest lists. The dbt of
the project is a process of its own, and has these to itself. With all of dagster-dbt come dbt Cloud and components:
0.2 s more.
"""

from __future__ import annotations

from granary.warehouse.stand_ins import empty, missing

__all__ = ["DagsterDbtTranslator", "DagsterDbtTranslatorSettings", "DbtCliInvocation", "dbt_assets"]

with missing("dbt.version"), empty("dagster_dbt"):
    from dagster_dbt.asset_decorator import dbt_assets
    from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
    from dagster_dbt.dagster_dbt_translator import DagsterDbtTranslator, DagsterDbtTranslatorSettings
