"""Sets into shards: what is in them, what a later start does, what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ddpm_codec
from ddpm_codec.bulk import BulkOptions, Standing, bulk_encode, bulk_verify, encode, source
from ddpm_codec.bulk.engine import Failed
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.rows import ShardFacts
from ddpm_codec.bulk.shard_encoder import ShardEncoder, Task
from ddpm_codec.bulk.tally import Said
from ddpm_codec.errors import FormatError, InputError, LeftOutError, ModelError, OutputError
from tests.helpers import leftovers

pytestmark = pytest.mark.usefixtures("here")
NONE = BulkOptions(model="none", shard_images=5)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_every_picture_once_and_the_manifest_says_where(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = bulk_encode(str(pictures), str(out), NONE)
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert (report.pictures, report.failed, report.shards) == (12, 0, 3)
    assert [Path(one.path).name for one in report.left_out] == ["notes.txt"]
    expected = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    assert [row["name"] for row in rows] == expected
    assert [row["shard"] for row in rows] == [f"shard-{n // 5:06d}.ddpm" for n in range(12)]
    for row in rows:
        with ddpm_codec.open_archive(out / row["shard"]) as archive:
            assert archive.names[row["index"]] == row["name"]
            decoded = archive[row["name"]]
        original = np.asarray(Image.open(row["source"]))
        np.testing.assert_array_equal(decoded, original)
        assert row["sha256"] == hashlib.sha256(original.tobytes()).digest()
        assert (row["height"], row["width"]) == original.shape[:2]
        assert (row["mode"], row["route"], row["failure"]) == ("RGB" if original.ndim == 3 else "L", "fallback", "")
        assert row["bpd"] == pytest.approx(8 * row["bytes"] / original.size, rel=1e-6)
    # Only heads, tables and framing are nobody's.
    shards = sum((out / f"shard-{n:06d}.ddpm").stat().st_size for n in range(3))
    assert report.file_bytes == shards
    assert 0 < shards - sum(row["bytes"] for row in rows) < 3 * 250
    assert not leftovers(out)


def test_a_shard_is_the_archive_that_encode_writes(pictures: Path, tmp_path: Path) -> None:
    bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none"))
    ddpm_codec.files.encode_files([pictures], tmp_path / "shard-000000.ddpm", model="none")
    assert (tmp_path / "out" / "shard-000000.ddpm").read_bytes() == (tmp_path / "shard-000000.ddpm").read_bytes()


def test_model_coded_shards_say_so(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = bulk_encode(str(pictures), str(out), BulkOptions(model="cifar10", shard_images=12, verify=True))
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert {row["route"] for row in rows if row["mode"] == "RGB"} <= {"bits-back", "fallback"}
    assert sum(row["route"] == "bits-back" for row in rows) == 12 - report.fallback_pictures > 6
    assert sum(row["bytes"] for row in rows) < report.file_bytes


def test_the_second_start_codes_nothing_and_a_lost_shard_alone_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    bulk_encode(str(pictures), str(out), NONE)
    before = files(out)
    coded: list[str] = []
    run = ShardEncoder.run

    def counting(self: ShardEncoder, task: Task, said: Said) -> ShardFacts:
        coded.append(task.shard)
        return run(self, task, said)

    monkeypatch.setattr(ShardEncoder, "run", counting)
    report = bulk_encode(str(pictures), str(out), NONE)
    assert (report.kept_shards, report.workers, coded) == (3, 0, [])
    assert report.pictures == 12
    # A shard without its sidecar, one cut short, and one that is gone are no finished shards.
    (out / "shard-000000.rows.parquet").unlink()
    (out / "shard-000001.ddpm").write_bytes(before["shard-000001.ddpm"][:-1])
    (out / "shard-000002.ddpm").unlink()
    (out / ".ddpm-0123456789abcdef.tmp").write_bytes(b"half")
    for number in range(3):
        assert bulk_encode(str(pictures), str(out), NONE).kept_shards == (0 if number == 0 else 3)
    assert coded == ["shard-000000", "shard-000001", "shard-000002"]
    after = files(out)
    assert {name: data for name, data in after.items() if name.endswith(".ddpm")} == {
        name: data for name, data in before.items() if name.endswith(".ddpm")
    }
    assert after.keys() == before.keys()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shard_images": 4}, "--shard-images 5, not 4"),
        ({"model": "cifar10"}, "--model none, not cifar10"),
        ({"strip": True}, "no --strip"),
        ({"block_pixels": 4096}, "block-pixels"),
    ],
)
def test_another_plan_is_refused_in_one_line(pictures: Path, tmp_path: Path, change: dict[str, Any], word: str) -> None:
    bulk_encode(str(pictures), str(tmp_path / "out"), NONE)
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match=word) as refusal:
        bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(**{"model": "none", "shard_images": 5, **change}))
    assert "\n" not in str(refusal.value)
    assert files(tmp_path / "out") == before


def test_other_pictures_are_refused(pictures: Path, tmp_path: Path) -> None:
    bulk_encode(str(pictures), str(tmp_path / "out"), NONE)
    (pictures / "a" / "new.png").write_bytes((pictures / "a" / "01.png").read_bytes())
    with pytest.raises(InputError, match="other pictures: 12, and now there are 13"):
        bulk_encode(str(pictures), str(tmp_path / "out"), NONE)
    (pictures / "a" / "new.png").unlink()
    Image.new("RGB", (50, 50), "red").save(pictures / "a" / "02.png")
    with pytest.raises(InputError, match=r"a/02\.png is new, moved or has another length"):
        bulk_encode(str(pictures), str(tmp_path / "out"), NONE)


def test_broken_pictures_are_rows_and_stop_no_other(pictures: Path, tmp_path: Path) -> None:
    (pictures / "a" / "04.png").write_bytes((pictures / "a" / "04.png").read_bytes()[:60])
    for name in ("03", "06", "09", "00"):
        (pictures / "b" / f"{name}.png").write_bytes(b"nothing")
    report = bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", shard_images=4))
    rows = {row["name"]: row for row in pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()}
    failed = {name for name, row in rows.items() if row["failure"]}
    assert failed == {"a/04.png", "b/00.png", "b/03.png", "b/06.png", "b/09.png"}
    assert (report.pictures, report.failed) == (7, 5)
    assert {Path(one.path).name for one in report.failures} == {Path(name).name for name in failed}
    assert all(one.reason and not one.reason.startswith(one.path) for one in report.failures)
    # All of the last shard failed: it has a sidecar and no file, and is not tried again.
    assert not (tmp_path / "out" / "shard-000002.ddpm").exists()
    again = bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", shard_images=4))
    assert (again.kept_shards, again.failed) == (3, 5)


def test_one_in_ten_broken_in_ways_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    broken = set()
    for number in range(400):
        path = folder / f"{number:03d}.png"
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        data = bytearray(path.read_bytes())
        if number % 10 == 3:
            at = int(rng.integers(60, len(data) - 20))
            # Cut short, a wrong byte in the pixels, empty, a wrong byte in the signature.
            flipped = bytes([*data[:at], data[at] ^ 0x55, *data[at + 1 :]])
            path.write_bytes((data[:at], flipped, b"", bytes([data[0] ^ 0xFF, *data[1:]]))[number // 10 % 4])
            broken.add(path.name)
    report = bulk_encode(str(folder), str(tmp_path / "out"), BulkOptions(model="none", shard_images=50))
    assert (report.pictures, report.failed) == (360, 40)
    assert {Path(one.path).name for one in report.failures} == broken
    assert all(one.reason for one in report.failures)
    verified = bulk_verify(str(tmp_path / "out"))
    assert (verified.pictures, verified.failures, verified.wrong) == (360, 40, [])


def test_shards_by_pixels_and_images_in_order(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    most = 3 * 32 * 25
    report = bulk_encode(str(pictures), str(out), BulkOptions(model="none", shard_pixels=most))
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    by_shard: dict[str, int] = {}
    for row in rows:
        by_shard[row["shard"]] = by_shard.get(row["shard"], 0) + row["width"] * row["height"]
    sizes = list(by_shard.values())
    assert len(sizes) == report.shards == 4
    assert max(sizes) <= most
    assert all(size + 32 * 25 > most for size in sizes[:-1])


def test_a_place_that_cannot_be_reached_for_a_while_costs_no_picture(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(source, "RETRY_SECONDS", (0.0,))
    read = Place.read
    down = [True]

    def unreachable(self: Place, path: str, start: int = 0, end: int | None = None) -> bytes:
        if down[0] and path.endswith("05.png"):
            with self.reading(path):
                raise ConnectionError("no route")
        return read(self, path, start, end)

    monkeypatch.setattr(Place, "read", unreachable)
    with pytest.raises(OutputError, match=r"05\.png: cannot be read \(no route\); what is finished stays"):
        bulk_encode(str(pictures), str(out), NONE)
    down[0] = False
    report = bulk_encode(str(pictures), str(out), NONE)
    assert (report.pictures, report.failed, report.kept_shards) == (12, 0, 2)


def test_a_place_that_answers_again_is_tried_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RETRY_SECONDS", (0.0, 0.0))
    read = Place.read
    failures = {"a/01.png": 2, "b/00.png": 1}

    def flaky(self: Place, path: str, start: int = 0, end: int | None = None) -> bytes:
        name = "/".join(path.split("/")[-2:])
        if failures.get(name, 0):
            failures[name] -= 1
            with self.reading(path):
                raise TimeoutError("slow")
        return read(self, path, start, end)

    monkeypatch.setattr(Place, "read", flaky)
    assert bulk_encode(str(pictures), str(tmp_path / "out"), NONE).pictures == 12
    assert set(failures.values()) == {0}


def test_a_failing_shard_is_named_and_the_others_stay(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ShardEncoder.run

    def failing(self: ShardEncoder, task: Task, said: Said) -> ShardFacts:
        if task.shard.endswith("1"):
            raise RuntimeError("a defect")
        return run(self, task, said)

    monkeypatch.setattr(ShardEncoder, "run", failing)
    with pytest.raises(OutputError, match=r"shard-000001\.ddpm: RuntimeError: a defect; what is finished stays"):
        bulk_encode(str(pictures), str(tmp_path / "out"), NONE)
    monkeypatch.setattr(ShardEncoder, "run", run)
    assert bulk_encode(str(pictures), str(tmp_path / "out"), NONE).kept_shards == 2


def test_progress_counts_what_was_there_before(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bulk_encode(str(pictures), str(out), NONE)
    (out / "shard-000001.rows.parquet").unlink()
    seen: list[Standing] = []
    bulk_encode(str(pictures), str(out), NONE, progress=seen.append)
    assert seen[0].pictures == 7
    assert seen[-1].pictures == seen[-1].total == 12
    assert all(one.dims <= 5 * 32 * 25 * 3 for one in seen)


def test_a_shard_that_another_worker_has_finished_stays(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    bulk_encode(str(pictures), str(out), NONE)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    # As if it had died after writing the sidecar: who starts the shard again does not know.
    monkeypatch.setattr(encode, "finished_shards", lambda *_: {})
    report = bulk_encode(str(pictures), str(out), NONE)
    assert (report.workers, report.pictures) == (1, 12)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")} == before


def test_strict_refuses_what_is_no_picture(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(LeftOutError, match=r"notes\.txt"):
        bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="none", strict=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("relative", [False, True])
def test_shards_inside_the_source_are_no_strangers_in_it(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    (pictures / "a" / "notes.txt").unlink()
    monkeypatch.chdir(pictures.parent)
    where = "pictures" if relative else str(pictures)
    options = BulkOptions(model="none", shard_images=5, strict=True)
    bulk_encode(where, f"{where}/shards", options)
    assert bulk_encode(where, f"{where}/shards", options).kept_shards == 3


def test_a_damaged_plan_is_said_to_be(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bulk_encode(str(pictures), str(out), NONE)
    plan = (out / "plan.json").read_text()
    for broken in ("", "{}", plan[:-5], plan.replace('"format":1', '"format":9'), plan.replace("[0,", "[1,")):
        (out / "plan.json").write_text(broken)
        with pytest.raises(FormatError) as refusal:
            bulk_encode(str(pictures), str(out), NONE)
        assert str(out) in str(refusal.value)
    (out / "plan.json").unlink()
    with pytest.raises(InputError, match=r"has shard-000000\.ddpm and no plan\.json"):
        bulk_encode(str(pictures), str(out), NONE)


def test_one_run_at_a_time(pictures: Path, tmp_path: Path) -> None:
    from ddpm_codec.bulk.lock import alone

    with alone(Place(str(tmp_path / "out"))), pytest.raises(InputError, match="another run is writing there"):
        bulk_encode(str(pictures), str(tmp_path / "out"), NONE)


def test_a_model_that_is_another_one_elsewhere_stops_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "model_id", lambda _: "0" * 64)
    with pytest.raises(ModelError, match="cifar10: is another model on"):
        bulk_encode(str(pictures), str(tmp_path / "out"), BulkOptions(model="cifar10", shard_images=5))
    # Nothing was coded by that plan, so it does not stand in the way of another one.
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "options", [{"shard_pixels": 1, "shard_images": 1}, {"shard_images": 0}, {"model": "none", "steps": 3}, {"tile": 9}]
)
def test_options_that_do_not_go_together(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        BulkOptions(**options)  # type: ignore[arg-type]


def test_failed_is_an_error_of_its_reason() -> None:
    assert str(Failed("no such model", ModelError).error()) == "no such model"
    assert isinstance(Failed("no such model", ModelError).error(), ModelError)
