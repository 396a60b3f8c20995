"""A real Alertmanager shows an incident as long as it is open, once."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import requests

from granary.alerting import queue, watch
from granary.alerting.config import Channel, Config
from tests.python.engine.alerting.conftest import loaded, rows, run
from tests.python.engine.alerting.test_incidents import QUIET
from tests.python.support.stream_servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from granary.warehouse.settings import Settings

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Debian's package prometheus-alertmanager")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an Alertmanager."""
    folder: Path = tmp_path_factory.mktemp("alertmanager")
    (folder / "config.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    url = f"http://127.0.0.1:{free_port()}"
    options = ["--config.file=config.yml", "--storage.path=data", "--cluster.listen-address="]
    with subprocess.Popen(
        [str(PROGRAM), *options, f"--web.listen-address={url.removeprefix('http://')}"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: answers(url), what="Alertmanager")
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def shown(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(f"{url}/api/v2/alerts", timeout=5).json()
    return found


def test_it_shows_an_incident_once_until_it_is_over(
    watched: Settings, manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_MANAGER", manager)
    config = Config(
        rules=QUIET.rules,
        channels={"manager": Channel("manager", "alertmanager", {"url": "THE_MANAGER"})},
        tell={"warning": ("manager",), "critical": ("manager",)},
    )
    now = rows(watched, "select clock_timestamp()")[0][0]
    loaded(watched, "receipts", "failed", now, "below its floor of 50%")
    watch.once(watched, config, now=now)
    run(watched, "update ops.alerts set sent_at = null")  # as if it had been killed after it was taken
    queue.deliver(watched, config, now=now)
    (alert,) = shown(manager)
    assert alert["status"]["state"] == "active"
    assert alert["annotations"]["summary"] == "till.receipts cannot be loaded"
    loaded(watched, "receipts", "loaded", now)
    watch.once(watched, config, now=now + timedelta(seconds=1))
    wait_until(lambda: not shown(manager), what="the end of the alert")
