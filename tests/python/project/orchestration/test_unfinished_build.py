"""What is no rest of a build that was killed, and what steps are expected to take.

That a killed backfill goes on where it was is tested in tests/python/engine/runs.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from granary.dbt import last_build, unfinished
from granary.dbt import manifest as dbt_manifest
from granary.dbt.run_events import Event
from granary.warehouse import steps
from granary.warehouse.connection import connect

if TYPE_CHECKING:
    from granary.dagster.run import RunOutcome
    from tests.python.project.orchestration.conftest import Place

YEAR = (date(2017, 1, 1), date(2017, 2, 2))


def test_another_build_since_then_or_another_load_is_no_rest(place: Place, first: RunOutcome) -> None:
    assert first.success
    state = last_build.state(place.settings, dbt_manifest.fingerprint(place.settings))
    manifest = dbt_manifest.load(dbt_manifest.prepare(place.settings))
    about = unfinished.about(state, YEAR, full_refresh=False)

    def broke_off(minutes: int) -> None:
        with connect(place.settings) as connection:
            steps.keep(connection, [steps.Step("killed", "model", "fct_sales", "build.fct_sales", False, 1, 1, about)])
            connection.execute(
                f"update ops.steps set build = '{about}', finished_at = (select max(finished_at) from ops.builds)"
                f" + interval '{minutes} minutes' where run_id = 'killed'".encode()
            )
            connection.commit()

    broke_off(1)
    rest = unfinished.rest(place.settings, about, manifest)
    assert rest is not None
    assert rest.built == {"fct_sales"}
    assert not any(name.endswith(".fct_sales") for name in rest.selected)
    assert any(name.endswith(".fct_baskets") for name in rest.selected)
    broke_off(-1)  # a build has ended since
    assert unfinished.rest(place.settings, about, manifest) is None
    broke_off(1)
    later = unfinished.about(last_build.State(state.fingerprint, state.loads + " "), YEAR, full_refresh=False)
    assert unfinished.rest(place.settings, later, manifest) is None
    broke_off(1)
    full = unfinished.about(state, YEAR, full_refresh=True)
    assert unfinished.rest(place.settings, full, manifest) is None


def test_what_steps_are_expected_to_take_is_known_before_the_next_run(place: Place, first: RunOutcome) -> None:
    assert first.success
    planned: list[Event] = []
    assert place.run("crm_snapshots", on_event=planned.append).success
    expected = planned[0].expected or {}
    assert planned[0].kind == "planned"
    assert "crm.households" in expected
    assert "snap_crm__households" in expected
    assert "fct_sales" not in expected
    loaded = place.rows("select count(*)::int from ops.steps where kind = 'load' and name = 'pos.transactions'")
    assert loaded >= [(1,)]
