"""What comes out of shards: the same pictures, under names of their own; and what verification notices."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_codec.bulk import BulkOptions, bulk_decode, bulk_encode, bulk_verify
from ddpm_codec.bulk.decode import MARK, Decoded, ShardDecoder, Task
from ddpm_codec.bulk.tally import Said
from ddpm_codec.errors import FormatError, InputError, OutputExistsError
from tests.helpers import leftovers, same

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def shards(pictures: Path, tmp_path: Path) -> Path:
    (pictures / "a" / "broken.png").write_bytes(b"nothing")
    bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", shard_images=5))
    return tmp_path / "out"


def test_all_is_as_the_manifest_says(shards: Path) -> None:
    report = bulk_verify(str(shards))
    assert (report.shards, report.pictures, report.failures, report.wrong) == (3, 12, 1, [])


def test_damage_of_every_kind_is_noticed(shards: Path) -> None:
    good = (shards / "shard-000001.ddpm").read_bytes()
    (shards / "shard-000001.ddpm").write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    wrong = bulk_verify(str(shards)).wrong
    assert [one.path for one in wrong] == ["shard-000001.ddpm"]
    assert str(shards) not in wrong[0].reason
    # The pictures of another shard, whole but not those.
    shutil.copy(shards / "shard-000000.ddpm", shards / "shard-000001.ddpm")
    report = bulk_verify(str(shards))
    held = [row["shard"] for row in pq.read_table(shards / "manifest.parquet").to_pylist() if not row["failure"]]
    assert report.pictures == 12 - held.count("shard-000001.ddpm")
    assert len(report.wrong) >= held.count("shard-000001.ddpm")
    (shards / "shard-000001.ddpm").unlink()
    assert "no such file" in bulk_verify(str(shards)).wrong[0].reason
    (shards / "shard-000001.ddpm").write_bytes(good)
    shutil.copy(shards / "shard-000000.ddpm", shards / "shard-000009.ddpm")
    assert [str(one) for one in bulk_verify(str(shards)).wrong] == ["shard-000009.ddpm: is not in the manifest"]


def test_other_pixels_are_noticed(shards: Path) -> None:
    table = pq.read_table(shards / "manifest.parquet")
    rows = table.to_pylist()
    rows[7]["sha256"] = bytes(32)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), shards / "manifest.parquet")
    wrong = bulk_verify(str(shards)).wrong
    assert [str(one) for one in wrong] == [
        f"{rows[7]['shard']}: {rows[7]['name']}: does not have the pixels of the manifest"
    ]


@pytest.mark.parametrize("change", ["missing", "twice", "order"])
def test_a_manifest_that_is_not_the_plan_is_refused(shards: Path, change: str) -> None:
    table = pq.read_table(shards / "manifest.parquet")
    rows = table.to_pylist()
    changed = {"missing": rows[:-1], "twice": [*rows[:3], *rows[2:]], "order": [rows[1], rows[0], *rows[2:]]}[change]
    pq.write_table(type(table).from_pylist(changed, schema=table.schema), shards / "manifest.parquet")
    with pytest.raises(FormatError, match=r"manifest\.parquet"):
        bulk_verify(str(shards))


@pytest.mark.parametrize("column", ["name", "shard"])
def test_a_manifest_that_names_other_places_is_refused(shards: Path, tmp_path: Path, column: str) -> None:
    table = pq.read_table(shards / "manifest.parquet")
    rows = table.to_pylist()
    rows[3][column] = "../evil.png"
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), shards / "manifest.parquet")
    with pytest.raises(FormatError, match=r"manifest\.parquet"):
        bulk_decode(str(shards), str(tmp_path / "inner" / "back"))
    assert not list(tmp_path.glob("**/evil*"))


def test_what_is_no_run_or_not_finished_is_refused(shards: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match=r"has no plan\.json"):
        bulk_verify(str(pictures))
    (shards / "manifest.parquet").unlink()
    with pytest.raises(InputError, match="the run is not finished"):
        bulk_verify(str(shards))


def test_pictures_come_back(shards: Path, pictures: Path, tmp_path: Path) -> None:
    report = bulk_decode(str(shards), str(tmp_path / "back"))
    assert (report.pictures, report.failed) == (12, [])
    for path in pictures.rglob("[0-9]*.png"):
        assert same(path, tmp_path / "back" / path.relative_to(pictures))
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"a", "b"}
    with pytest.raises(OutputExistsError, match="choose an empty folder"):
        bulk_decode(str(shards), str(tmp_path / "back"))


def test_an_interrupted_decode_goes_on(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ShardDecoder.run

    def failing(self: ShardDecoder, task: Task, said: Said) -> Decoded:
        if task.file == "shard-000001.ddpm":
            raise KeyboardInterrupt
        return run(self, task, said)

    for kind in ("files", "tar"):
        out = tmp_path / kind
        monkeypatch.setattr(ShardDecoder, "run", failing)
        with pytest.raises(KeyboardInterrupt):
            bulk_decode(str(shards), str(out), kind=kind)
        assert (out / MARK).exists()
        monkeypatch.setattr(ShardDecoder, "run", run)
        with pytest.raises(OutputExistsError, match="another source or format"):
            bulk_decode(str(shards), str(out), kind="tar" if kind == "files" else "files")
        report = bulk_decode(str(shards), str(out), kind=kind)
        assert (report.shards, report.kept_shards) == (3, 1)
        assert not leftovers(out)
        assert not (out / MARK).exists()


def test_tars_are_the_same_bytes_every_time(shards: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        bulk_decode(str(shards), str(tmp_path / name), kind="tar")
    for path in sorted((tmp_path / "x").iterdir()):
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()
        with tarfile.open(path) as tar:
            assert all(member.isreg() and member.mtime == 0 for member in tar)


def test_pictures_that_would_share_a_name_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    values = {"a.png": 1, "a.bmp": 2, "A.ppm": 3, "b.png": 4, "b.png.bmp": 5, "b.bmp": 6, "c.gif": 7}
    for name, value in values.items():
        Image.fromarray(np.full((3, 4, 3), value, np.uint8)).save(folder / name)
    bulk_encode(str(folder), str(tmp_path / "out"), BulkOptions(model="none", shard_images=2))
    bulk_decode(str(tmp_path / "out"), str(tmp_path / "back"))
    found = {path.name: np.asarray(Image.open(path).convert("RGB"))[0, 0, 0] for path in (tmp_path / "back").iterdir()}
    assert len({name.casefold() for name in found}) == len(values)
    assert set(found.values()) == set(values.values())
    assert found["c.png"] == 7
