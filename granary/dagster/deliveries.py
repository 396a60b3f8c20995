"""One asset per delivery, downstream of the marts that it reads: it runs once they are published.

(Dagster reads the annotations of its functions, so they are not postponed in this folder.)
"""

from collections.abc import Iterator

import dagster as dg

from granary.dagster.loader_assets import RETRIES, RETRY_SECONDS, unusable
from granary.dagster.resources import Warehouse
from granary.dagster.signals import stoppable
from granary.dbt.run_events import Event, Problem, emit
from granary.deliver.deliver import Delivered, deliver
from granary.deliver.discovery import PACKAGE, declared
from granary.deliver.spec import Delivery
from granary.warehouse.environment_errors import plainly
from granary.warehouse.errors import TransientError
from granary.warehouse.words import plural

CHECK = "every_row_delivered"
MARTS = "marts"


def key_of(name: str) -> dg.AssetKey:
    """Return the asset key of a delivery."""
    return dg.AssetKey([PACKAGE, name])


def deliveries() -> list[dg.AssetsDefinition]:
    """Return the assets of all deliveries of the project; one whose module cannot be used fails and says why."""
    found, broken = declared()
    return [asset(one) for one in found.values()] + [
        unusable(name, error, key_of(name), "deliver", PACKAGE) for name, error in broken.items()
    ]


def asset(delivery: Delivery) -> dg.AssetsDefinition:
    """Return the asset that makes one delivery."""
    key = key_of(delivery.name)

    @dg.asset(
        key=key,
        description=delivery.description,
        group_name=PACKAGE,
        owners=[f"team:{delivery.owner}"],
        kinds={"delivery"},
        deps=[dg.AssetKey([MARTS, mart]) for mart in delivery.marts],
        check_specs=[
            dg.AssetCheckSpec(CHECK, asset=key, description="The target has every row; it has refused none."),
        ],
    )
    def send(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        emit(Event("started", "deliver", delivery.name, group=PACKAGE))
        try:
            with stoppable(context):
                done = deliver(warehouse.settings, delivery)
        except Exception as failure:
            if (error := plainly(failure)) is None:
                raise
            problem = Problem(f"{delivery.name}: {error.what}", error.where, error.todo)
            if isinstance(error, TransientError) and context.retry_number < RETRIES:
                emit(Event("retrying", "deliver", delivery.name, group=PACKAGE, detail=str(problem)))
                wait = RETRY_SECONDS * 4**context.retry_number
                raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait) from failure
            emit(Event("failed", "deliver", delivery.name, group=PACKAGE, detail=str(problem)))
            emit(problem)
            raise dg.Failure(str(problem), allow_retries=False) from failure
        emit(Event("finished", "deliver", delivery.name, PACKAGE, done.rows))
        check = delivered_check(done)
        if not check.passed:
            words = f"{CHECK} of {delivery.name}: {check.description}"
            emit(Event("checked", "deliver", words, PACKAGE, passed=False, severity="warn", asset=delivery.name))
        yield check
        yield dg.MaterializeResult(
            metadata={
                "target": done.target,
                "publish": done.publish_id,
                "rows": done.rows,
                "new": done.inserted,
                "changed": done.updated,
                "deleted": done.deleted,
                "refused": done.refused,
                **({"note": done.note} if done.note else {}),
            }
        )

    return send


def delivered_check(done: Delivered) -> dg.AssetCheckResult:
    """Return the check that warns of rows that the target refused; they wait for a replay."""
    return dg.AssetCheckResult(
        asset_key=key_of(done.delivery),
        check_name=CHECK,
        passed=not done.refused,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{plural(done.refused, 'row')} refused: `granary quarantine list {PACKAGE}.{done.delivery}`"
        if done.refused
        else None,
        metadata={"rows": done.rows, "refused": done.refused},
    )
