"""A file in the place of another one on an SFTP server: in one step where the server can, told where it cannot.

SFTP's own rename is an error where there is a file already (draft-ietf-secsh-filexfer-02, section 6.5). OpenSSH's
extension `posix-rename@openssh.com` puts the new one in its place (https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL,
section 4.3), and so do many other servers. On the others the old file is moved aside for the time of a rename: it is
back in its place if the new one does not get there, at the latest when something is written under its name again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from granary.warehouse.faults import fault_point

ASIDE = ".was"
NOT_AT_ONCE = "the server has no posix-rename, so between the old file and the new one there was none for a moment"


def put(files: Any, half: str, path: str, aside: str) -> bool:
    """Give a file its name, in the place of the one that has it.

    Args:
        files: the file system, connected.
        half: what the file is called.
        path: what it is to be called.
        aside: what an old file of that name is called meanwhile, if the server cannot do it in one step.

    Returns:
        Whether there was a file of that name all the time, if there was one before.
    """
    from fsspec.asyn import sync  # type: ignore[import-untyped]  # noqa: PLC0415 - only SFTP needs it

    return bool(sync(files.loop, _put, files.client, half, path, aside))


def put_back(files: Any, path: str, aside: str) -> None:
    """Give a file that was moved aside its name again, if the process ended before there was a new one."""
    from fsspec.asyn import sync  # noqa: PLC0415

    sync(files.loop, _put_back, files.client, path, aside)


async def _put(client: Any, half: str, path: str, aside: str) -> bool:
    from asyncssh.sftp import SFTPFailure, SFTPOpUnsupported  # noqa: PLC0415

    async with client.start_sftp_client() as server:
        fault_point("sftp-half-there")
        with suppress(SFTPOpUnsupported, SFTPFailure):  # the latter is all that some say of a file that is there
            await server.posix_rename(half, path)
            return True
        if not await server.exists(path):
            await server.rename(half, path)
            return True
        await _remove(server, aside)
        await server.rename(path, aside)
        fault_point("sftp-old-aside")
        try:
            await server.rename(half, path)
        except BaseException:
            with suppress(Exception):  # what went wrong first is what is told
                await server.rename(aside, path)
            raise
        fault_point("sftp-new-there")
        await _remove(server, aside)
        return False


async def _put_back(client: Any, path: str, aside: str) -> None:
    async with client.start_sftp_client() as server:
        if await server.exists(aside):
            await (_remove(server, aside) if await server.exists(path) else server.rename(aside, path))


async def _remove(server: Any, path: str) -> None:
    from asyncssh.sftp import SFTPNoSuchFile  # noqa: PLC0415

    with suppress(SFTPNoSuchFile):
        await server.remove(path)
