"""Programs of Debian's packages, which tests install for themselves where they may."""

from __future__ import annotations

import os
import shutil
import subprocess


def program(name: str, package: str, folder: str = "") -> str | None:
    """Return the path of a program, installed if this is root on a Debian; None where it cannot be had.

    It is looked for in PATH and where Debian has servers, or in the `folder` of its package alone.
    """
    usual = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    where = folder or os.pathsep.join(usual)
    if not shutil.which(name, path=where) and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", package]
        subprocess.run(command, env=quiet, capture_output=True, check=False, timeout=300)
    return shutil.which(name, path=where)
