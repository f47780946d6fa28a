"""The bound over a set by parts: the figures of `bpd`, whatever the parts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.bulk import BoundOptions, bound, bulk_bpd
from ddpm_codec.bulk.bound import Part
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.evaluation import BoundReport, evaluate_bpd
from tests.golden.regenerate import FLOAT

pytestmark = pytest.mark.usefixtures("here")
MODEL = "cifar10"
SUMMED = 2 * 64 * 2.0**-53
"""Relative error of float64 sums over the few terms and tiles of an image in another order."""


@pytest.fixture
def mixed(pictures: Path) -> Path:
    """Pictures of several sizes and modes, one of them cut into tiles."""
    photo = Image.open(pictures / "a" / "01.png")
    photo.resize((80, 72)).save(pictures / "a" / "01.png")
    photo.convert("RGBA").save(pictures / "b" / "00.png")
    return pictures


def same(found: bound.BulkBound, plain: BoundReport) -> None:
    for name in ("prior_bpd", "diffusion_bpd", "reconstruction_bpd", "mean_rmse"):
        np.testing.assert_allclose(getattr(found.report, name), getattr(plain, name), rtol=SUMMED, atol=0)
    assert found.report.places.tolist() == plain.places.tolist()


@pytest.mark.parametrize("images", [1, 5, 100])
def test_the_figures_are_those_of_bpd_whatever_the_parts(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr(bound, "PART_IMAGES", images)
    plain = evaluate_bpd(str(mixed), model=MODEL, tile=64, seed=3, steps=2, device="cpu")
    found = bulk_bpd(str(mixed), BoundOptions(model=MODEL, tile=64, seed=3, steps=2))
    same(found, plain)
    assert found.changed == {"alpha dropped": 1, "grey counted as three equal channels": 1}
    assert [Path(one.path).name for one in found.left_out] == ["notes.txt"]
    ignored = ("seconds", "images_per_second", "changed", "left_out")
    facts = found.to_json()
    for key, value in plain.to_json().items():
        if key not in ignored and isinstance(value, str):
            assert facts[key] == value
        elif key not in ignored:
            # Standard errors are of differences, a tenth and more of the figures themselves.
            np.testing.assert_allclose(facts[key], value, rtol=16 * SUMMED, err_msg=key)


def test_a_broken_image_stops_no_other_and_takes_no_place_from_it(mixed: Path) -> None:
    plain = evaluate_bpd(str(mixed), model=MODEL, tile=64, steps=2, device="cpu")
    (mixed / "a" / "04.png").write_bytes(b"nothing")
    found = bulk_bpd(str(mixed), BoundOptions(model=MODEL, tile=64, steps=2))
    assert [(one.path, bool(one.reason)) for one in found.failures] == [(str(mixed / "a" / "04.png"), True)]
    places = plain.places.tolist()
    places.remove(2)
    assert found.report.places.tolist() == places
    np.testing.assert_allclose(found.report.total_bpd, plain.total_bpd[places], rtol=SUMMED)


def test_kept_parts_are_not_evaluated_again(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "PART_IMAGES", 5)
    kept, options = tmp_path / "kept", BoundOptions(model=MODEL, tile=64, steps=2)
    first = bulk_bpd(str(mixed), options, keep=str(kept))
    part = (kept / "part-000000005.npz").read_bytes()
    (kept / "part-000000005.npz").write_bytes(part[: len(part) // 2])
    again = bulk_bpd(str(mixed), options, keep=str(kept))
    assert (first.workers, again.workers) == (1, 1)
    whole = bulk_bpd(str(mixed), options, keep=str(kept))
    assert whole.workers == 0
    for one in (again, whole):
        same(one, first.report)
        assert one.changed == first.changed
    with pytest.raises(InputError, match="was begun with other images or settings"):
        bulk_bpd(str(mixed), BoundOptions(model=MODEL, tile=64, steps=2, seed=1), keep=str(kept))
    (kept / "bound.json").write_text("half")
    with pytest.raises(InputError, match="was begun with other images or settings"):
        bulk_bpd(str(mixed), options, keep=str(kept))
    with pytest.raises(InputError, match="choose an empty folder"):
        bulk_bpd(str(mixed), options, keep=str(mixed / "b"))


def test_the_limit_and_a_model_in_floating_point(pictures: Path) -> None:
    plain = evaluate_bpd(str(pictures), model=str(FLOAT), limit=3, steps=2, device="cpu")
    found = bulk_bpd(str(pictures), BoundOptions(model=str(FLOAT), limit=3, steps=2))
    assert found.report.images == 3
    # The same batches, so the same arithmetic.
    same(found, plain)


def test_what_cannot_be(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        bulk_bpd(str(pictures), BoundOptions(model="absent"))
    with pytest.raises(ModelError, match="crossing"):
        bulk_bpd(str(pictures), BoundOptions(model=MODEL, crossing=5.0))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no image can be used \(.*x\.png"):
        bulk_bpd(str(tmp_path / "bad"), BoundOptions(model=MODEL))


def test_parts_come_back(mixed: Path) -> None:
    plain = evaluate_bpd(str(mixed), model=MODEL, steps=2, limit=2, device="cpu")
    part = Part(plain, [], {"alpha dropped": 2})
    back = Part.unpack(part.pack())
    assert back.report is not None
    np.testing.assert_array_equal(back.report.total_bpd, plain.total_bpd)
    assert (back.failures, back.changed) == (part.failures, part.changed)
