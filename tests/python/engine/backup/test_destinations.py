"""Where backups lie: a folder, S3 and SFTP behave the same, and say in plain words what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.backup import base, catalog, restore, unpack
from granary.backup.config import Config
from granary.backup.sealing import identities_of, new_identity
from granary.readers.files.destination import Destination, Folder, open_destination
from granary.warehouse import server
from granary.warehouse.errors import GranaryError
from tests.python.engine.backup.conftest import Kept, rows
from tests.python.engine.files.conftest import store  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Store


@pytest.fixture(params=["folder", "s3", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    if request.param == "folder":
        return open_destination(str(tmp_path / "made"), {})
    weed: Store = request.getfixturevalue("store")
    if request.param == "s3":
        return open_destination(weed.s3(f"landing/{tmp_path.name}"), weed.s3_credentials)
    return open_destination(weed.sftp(f"backups-{tmp_path.name}"), weed.sftp_credentials)


def test_files_come_and_go(place: Destination) -> None:
    assert place.names("wal") == {}
    with pytest.raises(FileNotFoundError), place.reading("wal/a"):
        pass
    for content in (b"first", b"second, longer"):
        with place.writing("wal/a") as file:
            file.write(content)
    with place.writing("wal/deep/b") as file:
        file.write(b"x" * 6_000_000)
    assert place.names("wal") == {"wal/a": 14, "wal/deep/b": 6_000_000}
    assert catalog.read(place, "wal/a") == b"second, longer"
    place.remove("wal/a")
    place.remove("wal/a")
    assert list(place.names("")) == ["wal/deep/b"]


def test_what_breaks_off_leaves_the_file_as_it_was(place: Destination) -> None:
    with place.writing("a") as file:
        file.write(b"whole")
    with pytest.raises(GranaryError, match="the source ended"):
        _break_off(place)
    assert (place.names(""), catalog.read(place, "a")) == ({"a": 5}, b"whole")


def _break_off(place: Destination) -> None:
    with place.writing("a") as file:
        file.write(b"half")
        raise GranaryError("the source ended")


def test_who_may_not_write_is_told_so(store: Store, tmp_path: Path) -> None:  # noqa: F811
    wrong = open_destination(store.s3("landing/x"), {"key": "granary-key", "secret": "not-this"})
    with pytest.raises(GranaryError, match="refuses our credentials") as raised:
        catalog.write(wrong, "a", b"b")
    assert "not-this" not in str(raised.value)
    (tmp_path / "file").touch()
    with pytest.raises(GranaryError, match="the destination refuses it: File exists"):
        catalog.write(Folder(tmp_path / "file"), "a", b"b")


def test_an_encrypted_backup_on_s3_opens_with_its_key_only(
    kept: Kept,
    store: Store,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    private, public = new_identity()
    monkeypatch.setenv("S3_KEY", "granary-key")
    monkeypatch.setenv("S3_SECRET", "granary-secret")
    names = {"key": "S3_KEY", "secret": "S3_SECRET"}
    config = Config(to=store.s3("landing/sealed"), credentials=names, encrypt_to=(public,))
    (kept.settings.home / "sources.env").write_text("PARTNER_KEY=swordfish\n")
    (kept.settings.home / "sources.env").chmod(0o600)
    place = open_destination(config.to, store.s3_credentials)
    made = base.take(kept.settings, config, place, full=True)
    assert all(name.endswith(".age") for name in made.files)
    assert all(name.endswith(".age") for name in place.names("wal") if not name.endswith(".json"))
    other = kept.other("sealed")
    with pytest.raises(GranaryError, match="it is encrypted, and no key is set"):
        restore.restore(other, config)
    monkeypatch.setenv("GRANARY_BACKUP_KEY", new_identity()[0])
    with pytest.raises(GranaryError, match="the key does not open it"):
        restore.restore(other, config)
    key = tmp_path / "key"
    key.write_text(f"# made today\n{private}\n")
    key.chmod(0o600)
    monkeypatch.delenv("GRANARY_BACKUP_KEY")
    monkeypatch.setenv("GRANARY_BACKUP_KEY_FILE", str(key))
    try:
        restore.restore(other, config)
        assert rows(other) == [1, 2, 3, 4]
        assert (other.home / "sources.env").read_text() == "PARTNER_KEY=swordfish\n"
    finally:
        server.down(other)


def test_a_backup_by_sftp_can_be_unpacked(kept: Kept, store: Store, tmp_path: Path) -> None:  # noqa: F811
    place = open_destination(store.sftp("unpacked"), store.sftp_credentials)
    made = base.take(kept.settings, Config(to="there"), place, full=True)
    assert catalog.backups(place) == [made]
    unpack.unpack(place, made, [], "base", tmp_path / "data", None)
    assert (tmp_path / "data" / "PG_VERSION").read_text() == "18\n"
    assert unpack.log_after(place, made, catalog.position(place) or pytest.fail("none")).missing == ""


def test_keys_of_age_are_known_as_such() -> None:
    private, public = new_identity()
    for text in ("", "# only a word", public, private[:-1]):
        with pytest.raises(GranaryError, match="it holds no private key of age") as raised:
            identities_of(text, "HERE")
        assert private[:-1] not in str(raised.value)
    assert len(identities_of(f"# one\n{private}\n", "HERE")) == 1


def test_the_key_comes_from_a_file_or_a_command(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from granary.backup.config import private_keys  # noqa: PLC0415

    private, _ = new_identity()
    assert private_keys(kept.settings) == []
    monkeypatch.setenv("GRANARY_BACKUP_KEY_COMMAND", f"echo {private}")
    assert len(private_keys(kept.settings)) == 1
    monkeypatch.setenv("GRANARY_BACKUP_KEY_COMMAND", f"sh -c 'echo {private} >&2; exit 3'")
    with pytest.raises(GranaryError, match="the command for a secret failed: exit code 3") as raised:
        private_keys(kept.settings)
    assert private not in str(raised.value)
    monkeypatch.delenv("GRANARY_BACKUP_KEY_COMMAND")
    path = tmp_path / "key"
    path.write_text(f"# made today\n{private}\n")
    monkeypatch.setenv("GRANARY_BACKUP_KEY_FILE", str(path))
    assert len(private_keys(kept.settings)) == 1
