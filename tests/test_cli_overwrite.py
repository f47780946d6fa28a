"""``--overwrite`` replaces contents, not permissions."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_codec import atomic
from ddpm_codec.files import encode_files
from tests.golden.regenerate import EXACT
from tests.helpers import SMALL, TINY, Run, same


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    encode_files([TINY, SMALL], tmp_path / "set.ddpm", model="none")
    encode_files([TINY], tmp_path / "one.ddpm", model="none")
    return tmp_path


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o444, 0o666])
@pytest.mark.parametrize("verify", [(), ("--verify",)])
def test_encode_keeps_permissions(permissions: int, verify: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    target = tmp_path / "x.ddpm"
    target.write_bytes(b"old")
    target.chmod(permissions)
    assert run("encode", TINY, "-o", target, "--model", "none", "--overwrite", *verify)[0] == 0
    assert target.read_bytes() != b"old"
    assert mode(target) == permissions


def test_a_new_file_has_the_usual_permissions(run: Run, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert run("encode", TINY, "-o", tmp_path / "x.ddpm", "--model", "none", "--overwrite")[0] == 0
    finally:
        os.umask(before)
    assert mode(tmp_path / "x.ddpm") == 0o640


def test_decode_keeps_permissions(run: Run, coded: Path) -> None:
    single, folder = coded / "a.png", coded / "out"
    folder.mkdir()
    for path, permissions in ((single, 0o604), (folder / TINY.name, 0o600), (folder / SMALL.name, 0o444)):
        path.write_bytes(b"old")
        path.chmod(permissions)
    assert run("decode", coded / "one.ddpm", "-o", single, "--overwrite")[0] == 0
    assert run("decode", coded / "set.ddpm", "-o", folder, "--overwrite")[0] == 0
    assert (mode(single), mode(folder / TINY.name), mode(folder / SMALL.name)) == (0o604, 0o600, 0o444)
    assert all(same(path, folder / path.name) for path in (TINY, SMALL))
    assert same(TINY, single)


def test_other_commands_keep_permissions(run: Run, tmp_path: Path) -> None:
    assert run("encode", TINY, "-o", tmp_path / "p.ddpm", "--progressive", "--model", EXACT)[0] == 0
    strip = tmp_path / "strip.png"
    strip.write_bytes(b"old")
    for path in (strip, tmp_path / "p.ddpm"):
        path.chmod(0o600)
    model = ("--model", EXACT, "--overwrite")
    assert run("progressive", tmp_path / "p.ddpm", "-o", strip, "--frames", "1", *model)[0] == 0
    assert run("encode", TINY, "-o", tmp_path / "p.ddpm", "--progressive", *model)[0] == 0
    assert (mode(strip), mode(tmp_path / "p.ddpm")) == (0o600, 0o600)


def test_the_target_of_a_link_keeps_its_permissions(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "x.ddpm").symlink_to("real")
    assert run("encode", TINY, "-o", tmp_path / "x.ddpm", "--model", "none", "--overwrite")[0] == 0
    assert (tmp_path / "x.ddpm").is_symlink()
    assert mode(tmp_path / "real") == 0o640
    assert (tmp_path / "real").read_bytes() != b"old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept(run: Run, coded: Path) -> None:
    folder = coded / "out"
    folder.mkdir()
    for path in (coded / "x.ddpm", folder / TINY.name):
        path.write_bytes(b"old")
        os.chown(path, 1234, 4321)
        path.chmod(0o4750)
    assert run("encode", TINY, "-o", coded / "x.ddpm", "--model", "none", "--overwrite")[0] == 0
    assert run("decode", coded / "one.ddpm", "-o", folder, "--overwrite", "--format", "png")[0] == 0
    for path in (coded / "x.ddpm", folder / TINY.name):
        assert path.read_bytes() != b"old"
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 4321, 0o4750)


def test_an_owner_that_may_not_be_kept_costs_nothing_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who may write to a folder and replaces a file of somebody else's there."""
    target = tmp_path / "x.ddpm"
    target.write_bytes(b"old")
    target.chmod(0o4640)
    called = []

    def refuse(path: Path, user: int, group: int) -> None:
        called.append((user, group))
        raise PermissionError

    stated = Path.stat

    def foreign(self: Path, **how: bool) -> os.stat_result:
        found = stated(self, **how)
        if self != target:
            return found
        values = list(found)
        values[stat.ST_UID], values[stat.ST_GID] = 1234, 4321
        return os.stat_result(values)

    monkeypatch.setattr("os.chown", refuse)
    monkeypatch.setattr(Path, "stat", foreign)
    assert run("encode", TINY, "-o", target, "--model", "none", "--overwrite")[0] == 0
    assert called == [(1234, 4321), (-1, 4321)]
    # A program of another owner's must not become ours with its rights.
    assert mode(target) == 0o640
    assert target.read_bytes() != b"old"


def access_list(path: Path, user: int) -> bytes:
    """Return a POSIX access list that lets one more user read (version 2: tag, permissions, id)."""
    entries = [(1, 6, -1), (2, 4, user), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    return (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (number & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, rights, number in entries
    )


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs extended attributes")
def test_access_lists_are_kept(run: Run, tmp_path: Path) -> None:
    target, name = tmp_path / "x.ddpm", "system.posix_acl_access"
    target.write_bytes(b"old")
    wanted = access_list(target, 1234)
    try:
        os.setxattr(target, name, wanted)
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")
    assert run("encode", TINY, "-o", target, "--model", "none", "--overwrite")[0] == 0
    assert target.read_bytes() != b"old"
    assert os.getxattr(target, name) == wanted


def test_a_failure_leaves_the_old_files_as_they_were(run: Run, coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = coded / "out"
    folder.mkdir()
    for path in (TINY, SMALL):
        (folder / path.name).write_bytes(b"old")
        (folder / path.name).chmod(0o600)
    keep: Callable[[Path, Path], None] = atomic.keep_permissions

    def fail(temporary: Path, target: Path) -> None:
        keep(temporary, target)
        if target.name == SMALL.name:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("ddpm_codec.files.output.keep_permissions", fail)
    code, _, err = run("decode", coded / "set.ddpm", "-o", folder, "--overwrite")
    assert (code, err.count("\n")) == (1, 1)
    assert sorted(os.listdir(folder)) == sorted([TINY.name, SMALL.name])
    for path in (TINY, SMALL):
        assert (folder / path.name).read_bytes() == b"old"
        assert mode(folder / path.name) == 0o600
