"""Metrics, peers, curves and BD-rates against what is known of them without the code."""

import math
import sys
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.distortion import psnr_db, rmse_255
from ddpm_codec.errors import InputError, MissingDependencyError
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.rate_distortion.curves import BdRate, RatePoint, bd_rate, bd_rate_percent, mean_curves, mean_quality
from ddpm_codec.rate_distortion.metrics import METRICS, ms_ssim, ms_ssim_db, ssimulacra2, usable_metrics
from ddpm_codec.rate_distortion.peers import PEERS, Setting, jxl_quality, usable_peers
from ddpm_codec.rate_distortion.pictures import crop_middle, open_pictures
from ddpm_codec.rate_distortion.store import slug
from tests.rate_distortion_source import photo

Pixels = NDArray[np.uint8]

BIG = photo(168, 176)
SMALL = photo(64, 80)


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(7).normal(0.0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


# Metrics


def test_psnr_of_a_known_error() -> None:
    flat = np.full((20, 30, 3), 100, np.uint8)
    assert rmse_255(flat, flat + np.uint8(5)) == 5.0
    assert psnr_db(flat, flat + np.uint8(5)) == pytest.approx(20 * math.log10(51.0), rel=1e-12)
    assert psnr_db(np.zeros_like(flat), np.full_like(flat, 255)) == 0.0
    one = flat.copy()
    one[0, 0, 0] += 30  # the squared error, 900, spreads over 1,800 sub-pixels
    assert psnr_db(flat, one) == pytest.approx(10 * math.log10(255**2 / 0.5), rel=1e-12)


def test_equal_pictures_have_the_greatest_values() -> None:
    assert psnr_db(BIG, BIG) == math.inf
    assert ms_ssim(BIG, BIG) == 1.0
    assert ssimulacra2(BIG, BIG) == pytest.approx(100.0, abs=1e-9)
    assert ms_ssim_db(1.0) == math.inf
    assert ms_ssim_db(0.99) == pytest.approx(20.0)


@pytest.mark.parametrize("name", METRICS)
def test_more_noise_is_worse(name: str) -> None:
    values = [METRICS[name](BIG, noisy(BIG, sigma)) for sigma in (1.0, 4.0, 16.0)]
    assert None not in values
    assert values == sorted(values, key=lambda value: -(value or 0.0))
    assert len(set(values)) == 3


def test_small_pictures_have_no_value_where_the_metric_has_none() -> None:
    assert ms_ssim(BIG[:160], BIG[:160]) is None
    assert ms_ssim(BIG[:161, :161], BIG[:161, :161]) == 1.0
    assert ssimulacra2(SMALL[:7], SMALL[:7]) is None
    assert ssimulacra2(SMALL[:8, :8], SMALL[:8, :8]) is not None


@pytest.mark.parametrize("other", [SMALL[:-1], SMALL[..., :2], SMALL.astype(np.float64), SMALL[..., 0]])
def test_pictures_that_cannot_be_compared_are_refused(other: Pixels) -> None:
    with pytest.raises(InputError):
        psnr_db(SMALL, other)


def test_a_metric_that_is_not_installed_is_left_out_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    lines: list[str] = []
    assert usable_metrics(["psnr", "ssimulacra2"], lines.append) == ("psnr",)
    assert len(lines) == 1
    assert "pip install 'ddpm-codec[bench]'" in lines[0]
    with pytest.raises(MissingDependencyError, match=r"ddpm-codec\[bench\]"):
        ssimulacra2(SMALL, SMALL)
    with pytest.raises(InputError, match="no metric"):
        usable_metrics(["ssimulacra2"], lines.append)


# Peers


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_gives_the_picture_back_better_with_every_rung(name: str) -> None:
    peer = PEERS[name]
    if peer.missing() is not None:
        pytest.skip(str(peer.missing()))
    files = [peer.encode(SMALL, setting) for setting in peer.ladder]
    sizes = [len(data) for data in files]
    decoded = [peer.decode(data) for data in files]
    assert all(pixels.shape == SMALL.shape and pixels.dtype == np.uint8 for pixels in decoded)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]
    assert psnr_db(SMALL, decoded[-1]) > max(30.0, psnr_db(SMALL, decoded[0]) + 3.0)
    assert len({setting.label for setting in peer.ladder}) == len(peer.ladder) == 9


def test_jpeg_2000_has_its_colour_transform() -> None:
    peer = PEERS["jpeg2000"]
    setting = peer.ladder[5]
    bare = Setting("bare", setting.options | {"mct": 0})
    pixels = np.repeat(photo(128, 128)[..., :1], 3, axis=2)  # equal channels, as those of a photograph nearly are
    quality, without = (psnr_db(pixels, peer.decode(peer.encode(pixels, used))) for used in (setting, bare))
    assert quality > without + 1.0


def test_jpeg_xl_distances_become_qualities() -> None:
    assert jxl_quality(1.0) == pytest.approx(90.0)
    assert jxl_quality(6.4) == pytest.approx(30.0)
    for distance in (25.0, 15.0, 9.0):
        quality = jxl_quality(distance)
        assert 0.0 <= quality < 30.0
        assert 53 / 3000 * quality**2 - 23 / 20 * quality + 25 == pytest.approx(distance)


def test_a_peer_that_is_not_installed_is_left_out_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    lines: list[str] = []
    assert [peer.name for peer in usable_peers(["jxl", "webp", "jxl"], lines.append)] == ["webp"]
    assert len(lines) == 1
    assert "pillow-jxl-plugin" in lines[0]
    with pytest.raises(InputError, match="'bpg'"):
        usable_peers(["bpg"], lines.append)


def test_a_picture_that_a_peer_refuses_is_an_error_of_one_line() -> None:
    with pytest.raises(InputError, match=r"webp q0 cannot encode a picture of 16400x1 \("):
        PEERS["webp"].encode(np.zeros((1, 16400, 3), np.uint8), PEERS["webp"].ladder[0])


def test_a_file_that_a_peer_does_not_read_back_is_an_error_of_one_line() -> None:
    data = PEERS["jpeg"].encode(SMALL, PEERS["jpeg"].ladder[0])
    with pytest.raises(InputError, match=rf"\Ajpeg cannot decode its own file of {len(data) // 2} bytes \([^\n]+\)\Z"):
        PEERS["jpeg"].decode(data[: len(data) // 2])


# Curves


RATES = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.0])
QUALITIES = np.array([24.0, 27.5, 30.0, 34.0, 38.5, 43.0])


def curve(factor: float = 1.0, gain: float = 0.0) -> list[tuple[float, float]]:
    return list(zip((factor * RATES).tolist(), (QUALITIES + gain).tolist(), strict=True))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_bd_rate_of_a_curve_at_other_prices(factor: float) -> None:
    result = bd_rate_percent(curve(), curve(factor))
    assert result == pytest.approx((100 * (factor - 1), 24.0, 43.0), abs=1e-9)


def test_bd_rate_ignores_what_costs_more_and_is_no_better_and_what_is_exact() -> None:
    worse = [*curve(0.5), (1.7 / 2, 30.0), (4.0, math.inf)]
    assert bd_rate_percent(curve(), worse) == pytest.approx((-50.0, 24.0, 43.0), abs=1e-9)


def test_bd_rate_is_that_of_the_published_code() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        rates = [np.sort(rng.uniform(0.05, 4.0, count)) for count in (6, 9)]
        qualities = [np.sort(rng.uniform(low, 45.0, count)) for low, count in ((20.0, 6), (22.0, 9))]
        anchor, test = (list(zip(r.tolist(), q.tolist(), strict=True)) for r, q in zip(rates, qualities, strict=True))
        found = bd_rate_percent(anchor, test)
        assert found is not None
        expected = bjontegaard.bd_rate(
            rates[0], qualities[0], rates[1], qualities[1], "pchip", require_matching_points=False, min_overlap=0
        )
        assert found[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_there_is_no_bd_rate_without_overlap() -> None:
    assert bd_rate_percent(curve(), curve(gain=40.0)) is None
    assert bd_rate_percent(curve(), curve(gain=12.0)) is None  # 7 dB of 19 in common
    assert bd_rate_percent(curve(), curve()[:3]) is None
    assert bd_rate_percent(curve(), curve(gain=5.0)) is not None


def points(codec: str, factor: float, gain: float = 0.0) -> list[RatePoint]:
    return [
        RatePoint(codec, f"s{i}", round(1000 * rate), rate, {"psnr": value, "ms_ssim": None})
        for i, (rate, value) in enumerate(curve(factor, gain))
    ]


def test_bd_rates_are_averaged_over_the_pictures_that_overlap() -> None:
    pictures = [points("a", 1.0) + points("b", factor) for factor in (0.5, 0.9)]
    pictures.append(points("a", 1.0) + points("b", 1.0, gain=90.0))
    result = bd_rate(pictures, "psnr", ("a", ""), ("b", ""))
    assert result.percent == pytest.approx(-30.0)
    assert [result.low, result.high] == pytest.approx([24.0, 43.0])
    assert (result.pictures, result.of_pictures) == (2, 3)
    assert bd_rate(pictures, "ms_ssim", ("a", ""), ("b", "")) == BdRate(None, None, None, 0, 0)


def test_mean_curves() -> None:
    exact = RatePoint("a", "exact", 9000, 9.0, {"psnr": math.inf, "ms_ssim": 1.0})
    (mean,) = mean_curves([[*points("a", 1.0), exact], [*points("a", 3.0, gain=1.0), exact]], "psnr")
    assert mean.bpp == pytest.approx([*(2 * RATES), 9.0])
    # Mean squared errors are averaged: of two that differ by 1 dB, half of 1 + 10^(1 / 10) times the smaller.
    assert mean.values[:-1] == pytest.approx(QUALITIES + 1.0 - 10 * math.log10((1 + 10**0.1) / 2), rel=1e-12)
    assert mean.values[-1] is None
    assert mean.exact == (0,) * 6 + (2,)
    assert (mean.pictures, mean.settings[-1], len(mean.finite_points())) == (2, "exact", 6)


def test_pictures_too_small_for_a_metric_have_no_part_in_its_mean_rate() -> None:
    large = [RatePoint("a", "s", 100, 1.0, {"psnr": 30.0, "ms_ssim": 0.9})]
    small = [RatePoint("a", "s", 300, 3.0, {"psnr": 40.0, "ms_ssim": None})]
    (psnr,) = mean_curves([large, small], "psnr")
    (structure,) = mean_curves([large, small], "ms_ssim")
    assert (psnr.bpp, psnr.left_out) == ((2.0,), ())
    assert psnr.values == pytest.approx((-10 * math.log10((1e-3 + 1e-4) / 2),), rel=1e-12)
    assert (structure.bpp, structure.pictures, structure.left_out) == ((1.0,), 1, (1,))
    assert structure.values == pytest.approx((10.0,))


@pytest.mark.parametrize("infinite", [math.inf, None])
def test_an_exact_picture_counts_as_one_without_error(infinite: float | None) -> None:
    """None stands for infinity in records that were read back."""
    black = [RatePoint("jpeg", f"s{index}", 10, 0.1, {"psnr": infinite}) for index in range(6)]
    (mean,) = mean_curves([points("jpeg", 1.0), black, points("jpeg", 1.0)], "psnr")
    assert mean.values == pytest.approx(QUALITIES + 10 * math.log10(1.5), rel=1e-12)
    assert (mean.pictures, mean.exact, mean.left_out, mean.dropped) == (3, (1,) * 6, (), ())
    assert mean.bpp == pytest.approx((2 * RATES + 0.1) / 3)
    (alone,) = mean_curves([black], "psnr")
    assert alone.values == (None,) * 6


def test_quality_is_the_decibels_of_the_mean() -> None:
    pixels = [noisy(SMALL, sigma) for sigma in (2.0, 8.0)]
    mse = np.mean([np.mean((SMALL.astype(float) - other) ** 2) for other in pixels])
    assert mean_quality("psnr", [psnr_db(SMALL, other) for other in pixels]) == pytest.approx(
        10 * math.log10(255**2 / mse), rel=1e-12
    )
    assert mean_quality("ms_ssim", [0.9, 1.0]) == pytest.approx(-10 * math.log10(0.05))
    assert mean_quality("ms_ssim", [1.0, 1.0]) is None
    assert mean_quality("ssimulacra2", [50.0, 100.0]) == 75.0


def test_a_picture_without_a_file_or_a_value_takes_no_points_from_the_others() -> None:
    """Of a peer: it has no file at some settings, or none at all; or the metric has no value at one setting."""
    whole = points("webp", 1.0)
    unmeasured = [*points("webp", 2.0)[:5], RatePoint("webp", "s5", 1, 9.0, {"psnr": 50.0, "ms_ssim": 0.5})]
    pictures = [whole, points("webp", 3.0)[:2], points("jpeg", 1.0), whole]
    webp, jpeg = mean_curves(pictures, "psnr")
    assert (webp.codec, webp.pictures, webp.left_out, webp.dropped) == ("webp", 2, (1, 2), ())
    assert webp.bpp == pytest.approx(RATES)
    assert webp.values == pytest.approx(QUALITIES)
    assert (jpeg.pictures, jpeg.left_out) == (1, (0, 1, 3))
    ours = [RatePoint("a", label, 1, 1.0 + index, {"ssimulacra2": 50.0}) for index, label in enumerate("xy")]
    broken = [ours[0], RatePoint("a", "y", 1, 2.0, {"ssimulacra2": None})]
    (mean,) = mean_curves([ours, broken, ours], "ssimulacra2")
    assert (mean.values, mean.left_out) == ((50.0, 50.0), (1,))
    assert mean_curves([unmeasured], "ms_ssim") == []


def test_levels_that_a_small_picture_lacks_are_dropped_and_named() -> None:
    def ours(labels: str) -> list[RatePoint]:
        return [RatePoint("ddpm-codec", label, 1, 1.0 + ord(label), {"psnr": 30.0}, "mean") for label in labels]

    (mean,) = mean_curves([ours("abc"), ours("ac"), ours("abc")], "psnr")
    assert (mean.settings, mean.dropped, mean.left_out, mean.pictures) == (("a", "c"), ("b",), (), 3)


# Pictures


def test_pictures_of_other_modes_are_left_out(tmp_path: Path) -> None:
    Image.fromarray(SMALL).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    Image.fromarray(SMALL[..., 0]).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "sub").mkdir()
    Image.fromarray(BIG).save(tmp_path / "sub" / "d.png")
    lines: list[str] = []
    found = [picture for picture in open_pictures(str(tmp_path), limit=None, crop=100, note=lines.append) if picture]
    assert [(picture.name, picture.size) for picture in found] == [("a.png", (80, 64)), ("sub/d.png", (100, 100))]
    assert not found[0].metadata
    assert [("b.png" in line, "c.png" in line) for line in lines] == [(True, False), (False, True)]
    with pytest.raises(InputError, match="only RGB"):
        list(open_pictures(str(tmp_path / "b.png"), limit=None, crop=None, note=lines.append))


def test_arrays_and_limits(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([SMALL, SMALL[::-1]]))
    first, second = open_pictures(str(tmp_path / "x.npy"), limit=None, crop=None, note=print)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.array(), SMALL)
    assert np.array_equal(second.array(), SMALL[::-1])
    assert open_pictures(str(tmp_path / "x.npy"), limit=1, crop=None, note=print).count == 1


def test_the_middle_of_a_picture() -> None:
    cut = crop_middle(Picture(PictureInfo("a", "RGB", (80, 64)), SMALL.tobytes()), 70)
    assert cut.size == (70, 64)
    assert np.array_equal(cut.array(), SMALL[:, 5:75])


def test_names_become_file_names_that_differ() -> None:
    assert len({slug(name) for name in ("a/b.png", "a_b.png", "..", "é.png", "x" * 300, "\udcff.png")}) == 6
    assert all("/" not in slug(name) and not slug(name).startswith(".") for name in ("../a", "..", "/"))


def test_pictures_of_another_white_are_not_measured(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n8 8\n255\n" + bytes(192))
    (tmp_path / "b.ppm").write_bytes(b"P6\n8 8\n100\n" + bytes(192))
    lines: list[str] = []
    source = open_pictures(str(tmp_path), limit=None, crop=None, note=lines.append)
    assert [picture.name for picture in source if picture] == ["a.ppm"]
    assert [refused.path for refused in source.left_out] == [str(tmp_path / "b.ppm")]
    assert "white at 100" in lines[0]
