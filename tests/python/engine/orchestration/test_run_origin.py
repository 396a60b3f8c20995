"""Runs of the command belong to the definitions that are served: the landing page leaves out those of nobody."""

from __future__ import annotations

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_graphql.schema import create_schema

from granary.dagster.instance import MODULE, REPOSITORY, in_code_location

TIMELINE = """
    query {
      runsOrError(limit: 10) {
        ... on Runs { results { jobName status repositoryOrigin { repositoryName repositoryLocationName } } }
      }
    }
"""
"""What the landing page asks of runs to sort them by job."""


@dg.asset
def receipts() -> None: ...


def timeline(instance: dg.DagsterInstance) -> list[dict[str, object]]:
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as process:  # type: ignore[arg-type]
        answer = create_schema().execute(TIMELINE, context_value=process.create_request_context())
    assert answer.errors is None
    assert answer.data is not None
    found: list[dict[str, object]] = answer.data["runsOrError"]["results"]
    return found


def test_a_run_of_the_command_has_the_origin_that_the_landing_page_looks_for() -> None:
    job = dg.Definitions([receipts], jobs=[dg.define_asset_job("everything")]).resolve_job_def("everything")
    with dg.DagsterInstance.local_temp() as instance:
        assert job.execute_in_process(instance=instance).success
        assert [run["repositoryOrigin"] for run in timeline(instance)] == [None], "of nobody"
        in_code_location(instance, "everything")
        assert job.execute_in_process(instance=instance).success
        assert timeline(instance)[0] == {
            "jobName": "everything",
            "status": "SUCCESS",
            "repositoryOrigin": {"repositoryName": REPOSITORY, "repositoryLocationName": MODULE},
        }
