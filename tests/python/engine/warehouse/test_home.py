"""The home is its owner's alone, is found wherever it is named, and its server comes back however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.cli import log
from granary.warehouse import server, waits
from granary.warehouse.connection import connect, ensure_database, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import last_words, make_private, plan
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_to_others(home: Path) -> list[str]:
    """Return what of a home others may read, write or enter; the group of the server's user may go through."""
    allowed = 0o010 if os.geteuid() == 0 else 0
    found = [] if home.stat().st_mode & 0o077 in (0, allowed) else [str(home)]
    return found + [str(path) for path in (*home.iterdir(), *(home / "logs").glob("*")) if path.stat().st_mode & 0o077]


def test_a_home_is_its_owners_alone_also_one_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server(monkeypatch) as settings:
        assert open_to_others(settings.home) == []
        (settings.home / "logs").mkdir(exist_ok=True)
        (settings.home / "logs" / "setup.log").write_text("")
        for path in (settings.home, settings.home / "logs", settings.home / "logs" / "setup.log"):
            path.chmod(0o755)
        log.failure(ValueError("x"))
        server.up(settings)
        assert open_to_others(settings.home) == []
        with connect(settings, role="loader") as connection:
            assert query(connection, "select 1") == [(1,)]


def test_only_what_is_ours_is_closed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    outside.chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to(outside)
    make_private(tmp_path / "home")
    assert outside.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("named", ["~/w", "w", "$HOME/w"])
def test_one_home_is_found_by_everybody_who_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    """`~` is not the shell's business where a file or a quoted word sets it."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRANARY_HOME", named.replace("$HOME", str(tmp_path)))
    assert Settings.load().home == tmp_path / "w"
    assert log.failure(ValueError("x")) == tmp_path / "w" / "logs" / "granary.log"
    code = (
        "import os, sys, yaml; from dbt_common.context import set_invocation_context as given;"
        "from dbt.config.renderer import ProfileRenderer; given(os.environ);"
        "raw = yaml.safe_load(open(sys.argv[1]))['granary']['outputs']['local'];"
        "print(ProfileRenderer({}).render_data(raw)['host'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROJECT / "profiles.yml")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tmp_path / "w" / "run"), done.stderr
    assert not (tmp_path / "~").exists()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return what is told of waits."""
    words: list[str] = []
    monkeypatch.setattr(waits, "notify", words.append)
    return words


def test_a_lock_file_whose_number_is_now_another_program_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart of a container: the number of the old server belongs to something else."""
    with own_server(monkeypatch) as settings:
        layout = plan(settings.home)
        path = layout.data / "postmaster.pid"
        assert server.postmaster(layout) == int(path.read_text().split()[0])
        before = path.read_text()
        server.down(settings)
        # Of the server's own user: Postgres believes that such a process may be a server.
        other = subprocess.Popen(["sleep", "60"], **layout.identity())
        try:
            path.write_text(f"{other.pid}\n{before.partition(chr(10))[2]}")
            layout.give(path)
            assert server.postmaster(layout) is None
            assert server.up(settings)
            assert server.running(settings)
        finally:
            other.kill()
            other.wait()


def test_what_a_dying_process_writes_is_not_why_the_next_server_ended(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text(
        "FATAL:  an earlier one\n"
        'FATAL:  lock file "postmaster.pid" already exists\n'
        "FATAL:  terminating connection due to unexpected postmaster exit\n"
    )
    assert last_words(log, len("FATAL:  an earlier one\n")) == 'FATAL:  lock file "postmaster.pid" already exists'


def test_up_waits_for_processes_of_a_killed_server_and_says_so(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """They hold its memory until they have finished what they are at, longer than the 15 s that were waited once."""
    monkeypatch.setattr(server, "WORD_SECONDS", 0.2)
    with own_server(monkeypatch) as settings:
        connection = connect(settings, autocommit=True)
        pid = connection.pgconn.backend_pid
        os.kill(int((settings.home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGSTOP)
        os.kill(pid, signal.SIGSTOP)  # it does not notice that its server is gone
        os.kill(int((settings.home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        timer = threading.Timer(3, os.kill, (pid, signal.SIGCONT))
        timer.start()
        assert server.up(settings)
        timer.join()
        assert any("waiting until the last of its processes has ended" in words for words in said)


def test_a_server_that_recovers_is_waited_for(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    with own_server(monkeypatch) as settings:
        layout = plan(settings.home)
        real = type(layout).command
        answers = iter([GranaryError("pg_ctl failed: server did not start in time")])

        def slow(self: object, name: str, *arguments: str, **options: object) -> object:
            done = real(self, name, *arguments, **options)  # type: ignore[arg-type]
            if name == "pg_ctl" and arguments[0] == "start" and (late := next(answers, None)):
                raise late
            return done

        server.down(settings)
        monkeypatch.setattr(type(layout), "command", slow)
        assert server.up(settings)
        assert any("recovering" in words for words in said)


def test_a_running_server_of_an_earlier_version_learns_the_roles_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    """`granary up` after an upgrade, with the server up and its tables there: what an owner had made by hand, too."""
    with own_server(monkeypatch) as settings:
        owner = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        layout = plan(settings.home)
        (layout.data / "pg_ident.conf").write_text(f'owner "{owner}" granary\n')
        layout.command("pg_ctl", "reload", "-D", str(layout.data))
        with connect(settings, autocommit=True) as connection:
            for sql in (
                "drop table ops.migrations",
                "alter role loader nologin",
                "create schema raw_shop authorization loader",
                "create table raw_shop.t (n integer)",
                "create schema marts",
                "create table marts.by_owner (n integer)",
                "create table marts.m (n integer)",
                "alter table marts.m owner to transformer",
                "create or replace function ops.widen_column(relation regclass, column_name name, new_type text)"
                " returns void language sql security definer as ''",
            ):
                execute(connection, sql)
        with pytest.raises(GranaryError, match="cannot connect to"):
            connect(settings, role="loader")
        assert not server.up(settings)
        with connect(settings, role="loader") as connection:
            execute(connection, "select ops.widen_column('raw_shop.t'::regclass, 'n', 'bigint')")
            execute(connection, "insert into raw_shop.t values (1)")
        with connect(settings, role="transformer") as connection:
            execute(connection, "create table marts.more as select * from marts.by_owner")
        with connect(settings) as connection:
            definer = "select prosecdef from pg_proc where oid = 'ops.widen_column(regclass,name,text)'::regprocedure"
            assert query(connection, definer) == [(False,)]


def test_a_login_that_may_not_create_databases_is_told_so(settings: Settings) -> None:
    from dataclasses import replace  # noqa: PLC0415

    as_loader = replace(settings, user="loader")
    with pytest.raises(GranaryError, match="the login loader may not create the database nowhere"):
        ensure_database(as_loader, "nowhere")
