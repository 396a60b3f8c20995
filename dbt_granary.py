"""dbt as this project runs it: errors of the database show no values of rows, waits end, nothing is proved twice.

dbt passes on what the server says, and the server explains a failed constraint with the row itself, a failed cast with
the value: on the terminal, in dbt.log, in run_results.json and in whatever reads these. And dbt's sessions have no
limit for locks, nor can a profile give them one. A test that the audit of its model has passed in this run passes
without a statement (macros/audit.sql). dbt imports this module by itself, as it does every installed one whose name
begins with `dbt_` (dbt.plugins); the command `dbt` of the environment starts here as well, since dbt finds no modules
of an editable installation.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from signal import SIGINT
from threading import Lock, Thread, current_thread, get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from granary.warehouse.database_errors import safe_text
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify
from granary.warehouse.settings import Settings, spell_out_service

if TYPE_CHECKING:
    from collections.abc import Iterator

plugins: list[Any] = []
"""What dbt.plugins looks for: nothing of dbt's graph is changed."""
LOCK_SECONDS = 120
"""How long a statement of dbt waits for a lock, unless the database or the role has another limit: a build that works
beside this one holds its tables for as long as a model takes."""
LOOKS = (2.0, 10.0)
"""Seconds until the first look at what a statement waits for, and between later ones."""
ASKED = """
select pg_backend_pid(), exists (
    select from pg_namespace where nspname = 'ops' and has_schema_privilege(oid, 'usage')
)
"""
"""As in granary.warehouse.connection, which takes 0.1 s to import."""
LIMIT = "select set_config('lock_timeout', '{}s', false) where current_setting('lock_timeout') = '0'"

LATER = "set synchronous_commit = off"
"""A build waits for the disk once, when it is published (ops.publish): the server writes in the order of commits, so
that a power cut undoes what came last, as if the run had ended a moment earlier."""
CLEAN = f"select pg_advisory_unlock_all(); discard temp; reset all; {LATER}; {LIMIT}"
"""Makes a session like a new one, apart from its role: dbt begins one for each node and each test, and the server would
read its catalog and our functions anew each time, a sixth of a build's time."""

LEVELS = {"test": 10, "debug": 10, "info": 20, "warn": 30, "error": 40}
"""dbt's levels of events as numbers."""

LOCKING = frozenset({"build", "run", "seed", "snapshot"})
"""Commands of dbt that write tables; a retry is one of these."""
HELD = "GRANARY_BUILDING"
"""The variable of a dbt whose parent has the build lock (granary.warehouse.build_lock)."""
on_spark: list[Any] = []
"""The configuration of a dbt in this process whose target is Spark: Postgres' ledger has nothing of what it does."""
BUILDING = frozenset({"build", "run", "seed", "test", "snapshot", "retry"})
"""Commands of dbt after which there may be more to say, and that the run ledger has."""


@dataclass
class _Statement:
    """A statement at work: when to look at it next, and who has the lock that it waits for."""

    connection: Any
    look_at: float
    holder: list[str] = field(default_factory=list)


_statements: dict[int, _Statement] = {}
"""By thread of dbt: the statement that it is at."""
_watchers: list[Thread] = []
_starting = Lock()


def install() -> None:
    """Have dbt and its adapter for Postgres work so; done once a process."""
    import psycopg2  # type: ignore[import-untyped]  # noqa: PLC0415 - with dbt only
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager  # noqa: PLC0415

    handler: Any = Manager.exception_handler
    opened: Any = Manager.open
    if getattr(handler, "keeps_values_back", False):
        return

    @contextmanager
    def exception_handler(self: Any, sql: str) -> Iterator[None]:
        began = monotonic()
        with handler(self, sql), watched(self.get_thread_connection()) as holder:
            try:
                yield
            except psycopg2.errors.LockNotAvailable as error:
                from granary.warehouse.waits import LockHeldError  # noqa: PLC0415 - 0.1 s, of which dbt's start needs none

                if "held by" in str(error):  # ops.take_lock says so itself
                    raise type(error)(safe_text(error)) from None
                raise type(error)(str(LockHeldError(monotonic() - began, "".join(holder)))) from None
            except psycopg2.Error as error:
                raise type(error)(safe_text(error)) from None

    def open_with_limit(_: type[Manager], connection: Any) -> Any:
        if connection.state == "open":
            return connection
        given = connection.credentials
        connection.credentials = copy(given)
        connection.credentials.role = None  # what the role is called here, the warehouse knows
        made = opened(connection)
        made.credentials = given
        begin(made.handle, given.role)
        return made

    released: Any = Manager.release

    def release(self: Manager) -> None:
        connection: Any = self.get_if_exists()
        goes_on = not current_thread().name.startswith("ThreadPoolExecutor")  # such a thread ends with its question
        if goes_on and connection is not None and connection.state == "open" and cleaned(connection.handle):
            connection.transaction_open = False  # the thread's next node has it
        else:
            released(self)

    exception_handler.keeps_values_back = True  # type: ignore[attr-defined]
    Manager.exception_handler = exception_handler  # type: ignore[method-assign]
    Manager.open = classmethod(open_with_limit)  # type: ignore[method-assign, assignment]
    Manager.release = release  # type: ignore[method-assign, assignment]
    make_only_what_is_read()
    pass_what_is_proved()
    build_alone()
    cancel_as_login()
    know_spark()


def make_only_what_is_read() -> None:
    """Have dbt make no event that is below every log's level, and the types of an answer's columns once.

    Of 26,000 events of a build, 24,000 are for nobody, a seventh of dbt's time; and with each answer of the server it
    read a calendar.
    """
    from agate import TypeTester  # type: ignore[import-untyped]  # noqa: PLC0415 - with dbt only
    from dbt_common.clients import agate_helper  # noqa: PLC0415
    from dbt_common.events.base_types import BaseEvent  # noqa: PLC0415
    from dbt_common.events.event_manager import EventManager  # noqa: PLC0415
    from dbt_common.events.logger import PRINT_EVENT_NAMES  # noqa: PLC0415

    made: Any = BaseEvent.__init__
    looked_up: Any = BaseEvent.__getattr__
    changed: Any = BaseEvent.__setattr__
    fired: Any = EventManager.fire_event
    tested: Any = agate_helper.build_type_tester

    def keep_fields(self: BaseEvent, *arguments: Any, **fields: Any) -> None:
        self.__dict__["given"] = arguments, fields

    def look_up(self: BaseEvent, name: str) -> Any:
        if "given" in self.__dict__:
            arguments, fields = self.__dict__.pop("given")
            made(self, *arguments, **fields)
        return looked_up(self, name)

    def set_field(self: BaseEvent, name: str, value: Any) -> None:
        if name != "pb_msg":
            look_up(self, "pb_msg")
        changed(self, name, value)

    def fire_event(self: EventManager, e: BaseEvent, level: Any = None, *others: Any, **named: Any) -> None:
        least = min([LEVELS["warn"], *(LEVELS[logger.level.value] for logger in self.loggers)])
        own = LEVELS[(level or e.level_tag()).value]
        if own >= least or self.callbacks or type(e).__name__ in PRINT_EVENT_NAMES:
            fired(self, e, level, *others, **named)

    @cache
    def types(nulls: tuple[str, ...]) -> Any:
        return tested((), nulls)._possible_types

    def build_type_tester(text_columns: Any, string_null_values: Any = ("null", "")) -> Any:
        known = types(tuple(string_null_values))
        return TypeTester(force=dict.fromkeys(text_columns, known[-1]), types=known)

    BaseEvent.__init__ = keep_fields  # type: ignore[method-assign]
    BaseEvent.__getattr__ = look_up  # type: ignore[method-assign]
    BaseEvent.__setattr__ = set_field  # type: ignore[method-assign]
    EventManager.fire_event = fire_event  # type: ignore[method-assign]
    agate_helper.build_type_tester = build_type_tester


def know_spark() -> None:
    """Have a target of the type `spark` reach the warehouse's cluster and be asked in Spark's language."""
    from dbt.adapters.factory import AdapterContainer  # noqa: PLC0415 - with dbt only

    registered: Any = AdapterContainer.register_adapter

    def register(self: Any, config: Any, *arguments: Any, **named: Any) -> None:
        registered(self, config, *arguments, **named)
        if config.credentials.type == "spark":
            from granary.spark import dbt_side  # noqa: PLC0415 - an extra

            dbt_side.install()
            on_spark.append(config)

    AdapterContainer.register_adapter = register  # type: ignore[method-assign]


def begin(handle: Any, role: str | None) -> None:
    """Have a new session work as the profile's role, whatever the server calls it, and wait for locks with a limit.

    Raises:
        DbtRuntimeError: it is that of a pooler, in which none of this would last.
    """
    with handle.cursor() as cursor:
        cursor.execute(ASKED)
        pid, knows = cursor.fetchone()
        if pid != handle.info.backend_pid:
            from dbt_common.exceptions import DbtRuntimeError  # noqa: PLC0415 - with dbt only

            from granary.warehouse.connection import pooled  # noqa: PLC0415 - 0.1 s, of which dbt's start needs none

            handle.close()
            raise DbtRuntimeError(str(pooled(Settings.load())))
        if role and knows:
            cursor.execute("select set_config('role', ops.role_name(%s), false)", (role,))
        cursor.execute(LIMIT.format(LOCK_SECONDS))
        cursor.execute(LATER)
    handle.commit()


def cancel_as_login() -> None:
    """Have Ctrl-C end sessions as their login: on an external server dbt's role may not."""
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager  # noqa: PLC0415 - with dbt only

    def cancel(_: Manager, connection: Any) -> None:
        from granary.warehouse.waits import ask  # noqa: PLC0415 - 0.1 s, of which dbt's start needs none

        with suppress(Exception):  # it has ended by itself, or the server has gone
            about = connection.handle.info
            with ask(Settings.load(), about.dbname) as aside:
                aside.execute("select pg_terminate_backend(%s)", (about.backend_pid,))

    Manager.cancel = cancel  # type: ignore[method-assign]


def build_alone() -> None:
    """Have a command that writes tables hold the warehouse's build lock, unless its parent does."""
    from dbt.task.runnable import GraphRunnableTask  # noqa: PLC0415 - with dbt only

    at_work: Any = GraphRunnableTask.execute_with_hooks

    def work_alone(self: Any, selected_uids: Any) -> Any:
        if self.config.credentials.type == "spark":
            from granary.spark import dbt_side  # noqa: PLC0415 - an extra

            dbt_side.reach()
            with dbt_side.alone():
                return at_work(self, selected_uids)
        if self.args.which not in LOCKING or HELD in os.environ:
            return at_work(self, selected_uids)
        with locked(self.manifest):
            return at_work(self, selected_uids)

    GraphRunnableTask.execute_with_hooks = work_alone  # type: ignore[method-assign]


@contextmanager
def locked(manifest: Any) -> Iterator[None]:
    """Hold the lock that every run of Granary holds: a shell's dbt overwrites nobody's tables."""
    from dbt.adapters.events.logging import AdapterLogger  # noqa: PLC0415 - with dbt only
    from dbt_common.exceptions import DbtRuntimeError  # noqa: PLC0415

    from granary.dbt.manifest_nodes import marts_schema  # noqa: PLC0415 - 0.1 s, of which dbt's start needs none
    from granary.warehouse.build_lock import building  # noqa: PLC0415

    def interrupt() -> None:
        os.kill(os.getpid(), SIGINT)

    nodes = (node.to_dict() for node in manifest.nodes.values() if node.resource_type in ("model", "seed"))
    with ExitStack() as stack:
        try:
            say = AdapterLogger("Granary").warning
            stack.enter_context(building(Settings.load(), marts_schema(nodes), say, interrupt))
        except GranaryError as error:
            raise DbtRuntimeError(str(error)) from None
        yield


def pass_what_is_proved() -> None:
    """Have a test pass that the audit of its model, which has marked it in dbt's graph, has passed in this run."""
    from dbt.task.test import TestResultData, TestRunner  # noqa: PLC0415 - with dbt only

    answer: Any = TestRunner.compile_and_execute

    def answer_what_is_open(self: Any, manifest: Any, context: Any) -> Any:
        if not manifest.flat_graph["nodes"].get(self.node.unique_id, {}).get("is_proved"):
            return answer(self, manifest, context)
        passed = TestResultData(failures=0, should_warn=False, should_error=False, adapter_response={})
        return self.build_test_run_result(self.node, passed)

    TestRunner.compile_and_execute = answer_what_is_open  # type: ignore[method-assign, assignment]


def cleaned(handle: Any) -> bool:
    """Make a session like a new one; return whether it could be done."""
    try:
        handle.rollback()
        with handle.cursor() as cursor:
            cursor.execute(CLEAN.format(LOCK_SECONDS))
        handle.commit()
    except Exception:  # such as a server that has gone: dbt opens another session, or says so
        return False
    return True


@contextmanager
def watched(connection: Any) -> Iterator[list[str]]:
    """Say once whom a statement that takes long waits for; yields a list that then holds who has the lock."""
    if get_ident() in _statements:  # dbt asks within a question: its thread is watched already
        yield _statements[get_ident()].holder
        return
    statement = _statements[get_ident()] = _Statement(connection, monotonic() + LOOKS[0])
    with _starting:
        if not _watchers:
            # One for all: a thread for each of some 2,000 statements took a twelfth of dbt's time.
            _watchers.append(Thread(target=watch, name="lock watch", daemon=True))
            _watchers[0].start()
    try:
        yield statement.holder
    finally:
        del _statements[get_ident()]


def watch() -> None:
    """Look at every statement that takes long, for as long as the process lives."""
    from dbt.adapters.events.logging import AdapterLogger  # noqa: PLC0415 - with dbt only

    while True:
        sleep(LOOKS[0] / 4)
        for statement in [one for one in tuple(_statements.values()) if one.look_at <= monotonic()]:
            statement.look_at = monotonic() + LOOKS[1]
            with suppress(Exception):  # it is only a word; the statement itself ends by its own limit
                from granary.warehouse.waits import look  # noqa: PLC0415 - as above

                asked = statement.connection.handle.info
                _, found = look(Settings.load(), asked.dbname, asked.backend_pid)
                if found and not statement.holder:
                    AdapterLogger("Granary").warning(f"waiting for a lock: {found}")
                statement.holder[:] = [found] if found else statement.holder


def run() -> None:
    """Run dbt's own command."""
    from dbt.cli.main import cli  # noqa: PLC0415

    install()
    cli()


@contextmanager
def recorded() -> Iterator[None]:
    """Keep in the run ledger what dbt does inside, if it builds, tests or publishes."""
    words = set(sys.argv[1:])
    failed = True
    try:
        yield
        failed = False
    except SystemExit as ended:
        failed = bool(ended.code)
        raise
    finally:
        if not on_spark and (BUILDING & words or {"run-operation", "publish"} <= words):
            from dbt_common.invocation import get_invocation_id  # noqa: PLC0415

            from granary.dbt.step_times import keep_results  # noqa: PLC0415

            with suppress(AttributeError):  # dbt has not come so far as to read its own flags
                keep_results(Settings.load(), artifacts() / "run_results.json", get_invocation_id(), failed=failed)


def artifacts() -> Path:
    """Return the folder that this invocation of dbt leaves its artifacts in."""
    from dbt.flags import get_flags  # noqa: PLC0415

    flags: Any = get_flags()  # type: ignore[no-untyped-call]
    return Path(flags.PROJECT_DIR) / (flags.TARGET_PATH or "target")


def main() -> None:
    """Run dbt, as the command of its own name does; then name what it cannot know: sources in error, failing rows."""
    try:
        spell_out_service()
    except GranaryError as error:
        sys.exit(str(error))
    try:
        with recorded():
            run()
    except SystemExit as ended:
        if BUILDING & set(sys.argv[1:]) and not on_spark:
            say_more(failed=ended.code == 1)
            if HELD not in os.environ:  # else it is a step of somebody who sees to that
                follow_with_twin()
        raise


def follow_with_twin() -> None:
    """Bring the columnar twin of the marts to what was published, if the project has one."""
    from granary.twin import config, follower  # noqa: PLC0415 - with a twin only

    if config.is_wanted():
        follower.follow(Settings.load(), notify)


def say_more(*, failed: bool) -> None:
    """Say which sources cannot be loaded, and of each model that failed which row it failed on."""
    from dbt_common.invocation import get_invocation_id  # noqa: PLC0415

    from granary.dbt.failing_rows import causes_of_failures  # noqa: PLC0415
    from granary.sources.discovery import BROKEN  # noqa: PLC0415 - half a second

    for error in BROKEN.values():
        notify(f"warning: {error}")
    if failed:
        for words in causes_of_failures(Settings.load(), artifacts(), get_invocation_id()):
            notify(words)


with suppress(ImportError):  # an environment without dbt: there is nothing to change
    install()

if __name__ == "__main__":
    main()
