"""When the jobs of this business run."""

from __future__ import annotations

from orchestration.schedules import SCHEDULES


def test_schedules_are_at_the_promised_times() -> None:
    assert {schedule.name: schedule.cron_schedule for schedule in SCHEDULES} == {
        "daily": "30 5 * * *",
        "weekly_promotions": "0 6 * * 1",
    }
