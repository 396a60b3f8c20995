"""Files by SFTP: a reader sees the old file or the new one at every moment, whoever is killed when."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from granary.deliver.spec import Files
from granary.readers.files.sftp import NOT_AT_ONCE
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import remote_files, store  # noqa: F401 - a fixture
from tests.python.support import warm
from tests.python.support.command import GRANARY
from tests.python.support.sftp_server import sftp_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.python.engine.deliver.conftest import Send
    from tests.python.engine.files.conftest import Store
    from tests.python.support.rides import Rides
    from tests.python.support.sftp_server import SftpServer

HEAD = "rental,rider,business_date,bikes,price\n"
FIRST = HEAD + "1,masked,2021-01-05,1,4.50\n2,masked,2021-01-31,2,9.00\n3,masked,2021-02-01,1,4.50\n"
SECOND = FIRST.replace("2021-01-31,2,9.00", "2021-01-31,2,10.00")
NAME = "out/rentals_out.csv"
MODULE = """
import json
from granary.deliver.spec import Delivery, Files
SAID = json.loads({said!r})
DELIVERY = Delivery("rentals_out", "Rentals.", "fleet", (), lambda _: Files(**SAID), mart="rentals", key=("rental",))
"""


@pytest.fixture(params=["posix-rename", "no posix-rename"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SftpServer]:
    """Return a server of either kind, whose file is watched."""
    with sftp_server(tmp_path, without_rename=request.param != "posix-rename") as found:
        found.watched = NAME
        yield found


def files(server: SftpServer) -> Files:
    return Files(server.place(), credentials=server.credentials)


def change(rides: Rides) -> None:
    rides.run("update build.rentals set price = 10 where rental = 2")
    rides.publish()


def is_posix(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.callspec.params["server"] == "posix-rename")


def test_a_file_takes_the_place_of_the_former_one(
    rides: Rides, server: SftpServer, send: Send, request: pytest.FixtureRequest
) -> None:
    done = send(files(server), key=("rental",))
    assert (done.rows, done.note) == (3, "")
    change(rides)
    done = send(files(server), key=("rental",))
    if is_posix(request):
        assert (server.seen, done.note) == ([None, FIRST, SECOND], "")
    else:
        assert (server.seen, done.note) == ([None, FIRST, None, SECOND], NOT_AT_ONCE)
    assert [path.name for path in (server.folder / "out").iterdir()] == ["rentals_out.csv"]
    assert send(files(server), key=("rental",)).rows == 0


def test_a_rename_that_is_refused_leaves_the_former_file(
    rides: Rides, server: SftpServer, send: Send, request: pytest.FixtureRequest
) -> None:
    send(files(server), key=("rental",))
    change(rides)
    asked: list[str] = []

    def fails(name: str) -> bool:
        asked.append(name)
        renames = [one for one in asked if one in ("rename", "posix_rename")]
        # Where the old file was moved aside, it is the second rename that fails, and the third puts it back.
        return name in ("rename", "posix_rename") and len(renames) == (1 if is_posix(request) else 2)

    server.fails = fails
    with pytest.raises(GranaryError, match="the server refuses our credentials") as caught:
        send(files(server), key=("rental",))
    assert "sftp-secret" not in str(caught.value)
    assert (server.folder / NAME).read_text() == FIRST
    server.fails = lambda _: False
    assert send(files(server), key=("rental",)).rows == 3
    assert (server.folder / NAME).read_text() == SECOND
    assert [path.name for path in (server.folder / "out").iterdir()] == ["rentals_out.csv"]


POINTS = {
    "deliver-file-written": FIRST,
    "sftp-half-there": FIRST,
    "sftp-old-aside": None,
    "sftp-new-there": SECOND,
    "deliver-file-there": SECOND,
}
"""Where the process is killed, and what readers have until it is begun again."""
WITHIN = ("sftp-old-aside", "sftp-new-there")
"""Points that one step does not have."""
KILLS = [("posix-rename", point) for point in POINTS if point not in WITHIN]
KILLS += [("no posix-rename", point) for point in POINTS]


@pytest.mark.parametrize(("server", "point"), KILLS, indirect=["server"])
def test_whenever_it_is_killed_the_file_is_whole(
    rides: Rides, server: SftpServer, send: Send, tmp_path: Path, request: pytest.FixtureRequest, point: str
) -> None:
    send(files(server), key=("rental",))
    change(rides)
    project = made(tmp_path, {"place": server.place(), "credentials": server.credentials})
    killed = deliver(rides, project, GRANARY_KILL_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    there = server.folder / NAME
    assert (there.read_text() if there.exists() else None) == POINTS[point]
    assert send(files(server), key=("rental",)).rows == 3
    assert there.read_text() == SECOND
    assert [path.name for path in (server.folder / "out").iterdir()] == ["rentals_out.csv"]
    assert set(server.seen) <= {None, FIRST, SECOND}
    if is_posix(request):
        assert None not in server.seen[1:]


def test_who_was_moved_aside_is_back_before_the_next_is_written(rides: Rides, tmp_path: Path, send: Send) -> None:
    with sftp_server(tmp_path, without_rename=True) as server:
        server.watched = NAME
        send(files(server), key=("rental",))
        (server.folder / NAME).rename(server.folder / f"{NAME}.was.half")
        change(rides)
        server.fails = lambda name: name == "write"
        with pytest.raises(GranaryError):
            send(files(server), key=("rental",))
        assert (server.folder / NAME).read_text() == FIRST


def test_a_server_in_go(rides: Rides, store: Store, send: Send) -> None:  # noqa: F811
    target = Files(store.sftp("partner"), credentials=store.sftp_credentials)
    assert send(target, key=("rental",)).rows == 3
    change(rides)
    assert send(target, key=("rental",)).rows == 3
    there = remote_files(store)
    assert there.cat("/partner/rentals_out.csv").decode() == SECOND
    assert [path.rpartition("/")[2] for path in there.ls("/partner", detail=False)] == ["rentals_out.csv"]
    with pytest.raises(GranaryError, match="the server refuses our credentials") as caught:
        send(Files(store.sftp("partner"), credentials=store.sftp_credentials | {"password": "wrong-secret"}), name="no")
    assert "wrong-secret" not in str(caught.value)


def made(folder: Path, said: dict[str, Any]) -> Path:
    """Return a project with the delivery."""
    import json  # noqa: PLC0415

    project = folder / "project"
    (project / "deliveries").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: rides\nvars: {}\n")
    (project / "profiles.yml").touch()
    (project / "deliveries" / "__init__.py").touch()
    (project / "deliveries" / "rentals_out.py").write_text(MODULE.format(said=json.dumps(said)))
    return project


def deliver(rides: Rides, project: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    environment = {**os.environ, **rides.settings.environment(), "GRANARY_PROJECT": str(project), **more}
    return warm.run(GRANARY, "deliver", "rentals_out", folder=project, environment=environment)
