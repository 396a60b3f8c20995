"""The embedded server's files of settings: who may come in, and where; its certificate; its share of the machine."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from granary.warehouse import certificate, listen
from granary.warehouse.settings import LOGINS, OWNER, PORT

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.layout import Layout
    from granary.warehouse.listen import Listening


def write(layout: Layout, home: Path, tuning: dict[str, str]) -> None:
    """Write who may come in and where, and the settings of `tuning`.

    Raises:
        GranaryError: the server is to listen with a certificate that is none.
    """
    listening = listen.load(home)
    texts = {layout.data / name: text.encode() for name, text in rules(listening).items()}
    if listening and listening.tls:
        texts |= dict(zip(_tls_files(layout), certificate.ready(home, listening), strict=True))
    values = tuning | (listening.server_settings(*_tls_files(layout)) if listening else {})
    texts[layout.data / "granary.conf"] = "".join(f"{name} = {value}\n" for name, value in values.items()).encode()
    for path, text in texts.items():
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
            layout.give(path.parent)
        path.touch(mode=0o600)
        path.write_bytes(text)
        layout.give(path)
    main = layout.data / "postgresql.conf"
    if "granary.conf" not in main.read_text():
        with main.open("a") as handle:
            handle.write("\ninclude 'granary.conf'\n")
    _name_socket(layout, listening.port if listening else PORT)


def changed(layout: Layout, home: Path) -> bool:
    """Return whether the running server goes by an earlier version's rules, or by a certificate that was renewed."""
    listening = listen.load(home)
    if any((layout.data / name).read_text() != text for name, text in rules(listening).items()):
        return True
    return listening is not None and listening.tls and certificate.renewed(home, listening, _tls_files(layout))


def rules(listening: Listening | None) -> dict[str, str]:
    """Return the files that say who may come in: this process' user, as the owner and as each role; and colleagues."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    return {
        "pg_hba.conf": f"local all all peer map=owner\nlocal replication {OWNER} peer map=owner\n"
        + (listening.rules if listening else ""),
        "pg_ident.conf": "".join(f'owner "{name}" {login}\n' for login in (OWNER, *LOGINS)),
    }


def _tls_files(layout: Layout) -> tuple[Path, Path]:
    """Return the certificate and key that the server uses: its own copies, outside of what a backup of it holds."""
    return layout.root / "tls" / "server.crt", layout.root / "tls" / "server.key"


def _name_socket(layout: Layout, port: int) -> None:
    """Keep the socket's usual name whatever the port is: dbt's profile and running processes know it by that."""
    usual = layout.run / f".s.PGSQL.{PORT}"
    if usual.is_symlink():
        usual.unlink()
    if port != PORT:
        usual.unlink(missing_ok=True)
        usual.symlink_to(f".s.PGSQL.{port}")
