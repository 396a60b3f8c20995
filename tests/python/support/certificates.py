"""An authority of a test's own, and the certificates that it signs: by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def authority(folder: Path, name: str = "ca") -> Path:
    """Make an authority; return its certificate."""
    _openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
        "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt",
    )  # fmt: skip
    return folder / f"{name}.crt"


def certificate(folder: Path, name: str, subject: str, alternative: str | None = None) -> tuple[Path, Path]:
    """Make a certificate of the authority `ca` in this folder; return it and its key."""
    _openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={subject}",
        "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    more = []
    if alternative:
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        more = ["-extfile", f"{name}.ext"]
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", *more)
    (folder / f"{name}.key").chmod(0o600)
    return folder / f"{name}.crt", folder / f"{name}.key"


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True, timeout=60)
