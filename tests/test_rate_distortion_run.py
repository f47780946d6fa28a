"""``ddpm-codec rd``: whole runs with stand-ins for this codec's curves; resuming, the page, and wrong inputs."""

import csv
import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.errors import DdpmCodecError, OutputExistsError
from ddpm_codec.rate_distortion import run as run_module
from ddpm_codec.rate_distortion.report import RdReport
from ddpm_codec.rate_distortion.run import run_rd
from ddpm_codec.rate_distortion.store import PRODUCTS
from tests.helpers import Run
from tests.rate_distortion_source import BITS, fake_sources, photo

NAMES = ("a.png", "b.png", "sub/c.png")
BRIEF: dict[str, Any] = {"peers": ["jpeg", "webp"], "metrics": ["psnr"], "reconstructions": ["mean", "flow"]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of different sizes."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for index, name in enumerate(NAMES):
        Image.fromarray(photo(40 + 8 * index, 56, seed=index)).save(folder / name)
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command line measure the stand-ins; return their log."""
    monkeypatch.setattr(run_module, "codec_sources", lambda: fake_sources(tmp_path))
    return tmp_path / "calls.txt"


def measure(photos: Path, **options: Any) -> RdReport:  # noqa: ANN401 - as run_rd takes them
    options = BRIEF | {"sources": fake_sources(photos.parent)} | options
    return run_rd(str(photos), photos.parent / "out", **options)


def calls(photos: Path) -> list[str]:
    """Return the names of the pictures whose real curve was measured, in order, and forget them."""
    log = photos.parent / "calls.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.split()[0] for line in lines if " real " in line]


def test_a_run_leaves_every_figure(photos: Path) -> None:
    progress: list[tuple[int, int]] = []
    report = measure(photos, steps=5, progress=lambda done, count: progress.append((done, count)))
    out = photos.parent / "out"
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert {path.name for path in out.iterdir()} == {*PRODUCTS, "settings.json", "images", "crops"}
    assert (photos.parent / "calls.txt").read_text().splitlines()[0] == "a.png real photo auto 5"
    with (out / "rd.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (2 * 2 * len(BITS) + 2 * 9)
    for row in rows:
        if row["codec"] != "ddpm-codec (ideal)":
            assert float(row["bpp"]) == 8 * int(row["file_bytes"]) / (int(row["width"]) * int(row["height"]))
    # The last milestone is the picture itself: no number in JSON, an empty cell in a table.
    exact = [row for row in rows if row["setting"] == "8 bits"]
    assert len(exact) == 12
    assert {row["psnr"] for row in exact} == {""}
    values = json.loads((out / "rd.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (values["pictures"], values["metrics"], values["peers"]) == (3, ["psnr"], ["jpeg", "webp"])
    assert [record["name"] for record in values["records"]] == list(NAMES)
    assert len(values["bd_rate"]) == 2 * 2 * 2
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == {
        key: value for key, value in values.items() if key != "records"
    }


def test_the_theoretical_curve_is_a_tenth_cheaper(photos: Path) -> None:
    curves = {curve.name: curve for curve in measure(photos).curves["psnr"]}
    real, ideal = curves["ddpm-codec mean"], curves["ddpm-codec (ideal) mean"]
    assert ideal.values == real.values
    assert ideal.bpp == pytest.approx([0.9 * rate for rate in real.bpp], rel=1e-3)


def test_the_second_run_measures_nothing_and_says_the_same(photos: Path) -> None:
    first = measure(photos)
    assert calls(photos) == list(NAMES)
    out = photos.parent / "out"
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    second = measure(photos)
    assert calls(photos) == []
    assert second == first
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_a_run_that_was_killed_goes_on(photos: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(photos, sources=fake_sources(photos.parent, fail_at="b.png"))
    assert not (photos.parent / "out" / "rd.json").exists()
    assert calls(photos) == ["a.png"]
    measure(photos)
    assert calls(photos) == ["b.png", "sub/c.png"]


def test_processes_give_the_same_and_one_that_dies_loses_only_its_own(photos: Path) -> None:
    sources = fake_sources(photos.parent, fail_at="sub/c.png", die=True)
    with pytest.raises(DdpmCodecError, match="run the same command again to resume"):
        measure(photos, workers=2, sources=sources)
    # The process that died takes the others with it, one of them perhaps while it writes: a temporary file is no result.
    kept = list((photos.parent / "out" / "images").glob("*.json"))
    calls(photos)
    report = measure(photos)
    assert len(kept) + len(calls(photos)) == 3
    again = run_rd(str(photos), photos.parent / "two", workers=2, sources=fake_sources(photos.parent), limit=2, **BRIEF)
    assert again.records == report.records[:2]


def test_a_changed_picture_is_measured_anew(photos: Path) -> None:
    measure(photos)
    calls(photos)
    Image.fromarray(photo(40, 56, seed=9)).save(photos / "a.png")
    (next((photos.parent / "out" / "images").glob("b.png*"))).write_text("{")
    measure(photos)
    assert calls(photos) == ["a.png", "b.png"]


@pytest.mark.parametrize("other", [{"steps": 3}, {"metrics": ["ssimulacra2"]}, {"peers": ["jpeg"]}, {"crop": 32}])
def test_other_settings_are_refused_unless_they_may_replace(photos: Path, other: dict[str, Any]) -> None:
    measure(photos, limit=1)
    calls(photos)
    with pytest.raises(OutputExistsError, match="other settings"):
        measure(photos, limit=1, **other)
    assert calls(photos) == []
    measure(photos, limit=1, overwrite=True, **other)
    assert calls(photos) == ["a.png"]


def test_foreign_files_are_kept(photos: Path) -> None:
    out = photos.parent / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"index\.html"):
        measure(photos)
    assert (out / "index.html").read_text() == "mine"


def test_more_pictures_on_the_page_are_fetched_later(photos: Path) -> None:
    measure(photos, page_pictures=1)
    assert calls(photos) == list(NAMES)
    measure(photos, page_pictures=2)
    assert calls(photos) == ["b.png"]
    measure(photos, page_pictures=0)
    assert calls(photos) == []


def test_what_a_peer_refuses_is_said_once_and_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 16400, 3), np.uint8)).save(tmp_path / "wide.png")
    lines: list[str] = []
    report = run_rd(
        str(tmp_path / "wide.png"), tmp_path / "out", note=lines.append, sources=fake_sources(tmp_path), **BRIEF
    )
    assert len(lines) == 1
    assert lines[0].startswith("wide.png: webp q0 cannot encode a picture of 16400x8")
    assert {point.codec for point in report.records[0].points} == {"ddpm-codec", "ddpm-codec (ideal)", "jpeg"}


class Balanced(HTMLParser):
    """Checks that tags close in order, and collects what a page would fetch and the names that it can refer to."""

    VOID = ("meta", "img", "input", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.collect(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.collect(attrs)

    def collect(self, attrs: list[tuple[str, str | None]]) -> None:
        sources = {"src", "href", "srcset", "action", "data"}
        self.sources += [value or "" for name, value in attrs if name.rpartition(":")[2] in sources]
        self.names += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_all_that_it_shows(photos: Path) -> None:
    (photos / "a.png").rename(photos / "<script>&.png")
    report = measure(photos, page_pictures=2)
    text = (photos.parent / "out" / "index.html").read_text()
    page = Balanced()
    page.feed(text)
    assert page.open == []
    # What the figure refers to is in the page; the addresses that name its XML namespaces are not fetched.
    assert {source[0] for source in page.sources} == {"#"}
    assert {source[1:] for source in page.sources} <= set(page.names)
    assert len(set(page.names)) == len(page.names)
    addresses = re.sub(r' xmlns(:xlink)?="http://www\.w3\.org/(2000/svg|1999/xlink)"', "", text)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)|<link", addresses)
    inside = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[0]
    assert "<" not in inside
    data = json.loads(inside)
    assert [picture["name"] for picture in data["pictures"]] == ["<script>&.png", "b.png"]
    assert all(uri.startswith("data:image/webp;base64,UklGR") for uri in data["images"])
    points = report.records[0].points
    rates = data["pictures"][0]["ours"]["mean"]
    ours = [point for point in points if point.codec == "ddpm-codec" and point.reconstruction == "mean"]
    for rate, point in zip(rates, ours, strict=True):
        assert f"{point.file_bytes:,} bytes" in rate["caption"]
        assert (f"PSNR {point.metrics['psnr']:.2f}" if point.metrics["psnr"] else "equal to the") in rate["caption"]
        for peer, codec in zip(rate["peers"], ("jpeg", "webp"), strict=True):
            sizes = [other.file_bytes or 0 for other in points if other.codec == codec]
            nearest = min(sizes, key=lambda size: abs(np.log(size / (point.file_bytes or 1))))
            assert peer["caption"].startswith(f"{nearest:,} bytes")
    for row in report.bd_rates:
        assert row.result.percent is None or f"{row.result.percent:+.1f}</td>" in text


def test_the_figure_and_the_page_have_every_value(photos: Path) -> None:
    report = measure(photos, metrics=["psnr", "ssimulacra2"], limit=1)
    out = photos.parent / "out"
    wanted = [
        f"{curve.name} {setting}: {rate:.4f} bpp, {value:.3f}"
        for metric in ("psnr", "ssimulacra2")
        for curve in report.curves[metric]
        for setting, rate, value in curve.finite_points()
    ]
    # Four curves of ours and two of peers; the exact picture has no finite PSNR.
    assert len(wanted) == (4 * (len(BITS) - 1) + 2 * 9) + (4 * len(BITS) + 2 * 9)
    panels = re.findall(r"<svg xmlns=.*?</svg>", (out / "index.html").read_text(), re.DOTALL)
    assert len(panels) == 2
    for drawings in ([(out / "rd.svg").read_text()], panels):
        elements = [ElementTree.fromstring(drawing) for drawing in drawings]
        assert [
            title.text for element in elements for title in element.iter("{http://www.w3.org/2000/svg}title")
        ] == wanted


def test_a_page_without_peers_says_so(photos: Path) -> None:
    measure(photos, limit=1, peers=[])
    text = (photos.parent / "out" / "index.html").read_text()
    assert "No other codec was measured." in text
    assert text.count("<table>") == 1


def test_the_command_prints_tables_or_one_object(photos: Path, fake: Path, run: Run) -> None:
    words = ["rd", photos, "-o", fake.parent / "out", "--peers", "jpeg, webp", "--metrics", "psnr"]
    code, out, err = run(*words, "--reconstructions", "mean", "--steps", 7)
    assert (code, err) == (0, "")
    assert "photo auto 7" in fake.read_text()
    assert next(line.split()[-2] for line in out.splitlines() if line.startswith("ddpm-codec mean  ")) == "0.7500"
    assert "vs jpeg" in out
    code, out, err = run(*words, "--reconstructions", "mean", "--steps", 7, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out)["bd_rate"][0]["anchor"] == "jpeg"


def test_grey_pictures_are_named_and_left_out(photos: Path, fake: Path, run: Run) -> None:
    Image.fromarray(photo(40, 40)[..., 0]).save(photos / "grey.png")
    code, _, err = run("rd", photos, "-o", fake.parent / "out", "--peers", "none", "--metrics", "psnr")
    assert (code, err.count("\n")) == (0, 1)
    assert re.fullmatch(r"ddpm-codec: note: .*grey\.png: pixel mode is L, .*; skipped\n", err)


def two_peers(photos: Path, out: Path, metrics: str) -> tuple[str | Path, ...]:
    """Return the words of a run beside JPEG and WebP."""
    peers = ("--peers", "jpeg,webp", "--metrics", metrics, "--reconstructions", "mean")
    return ("rd", photos, "-o", out, *peers)


def rd_json(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "rd.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    return values


def test_a_black_picture_takes_no_points_from_the_curves(photos: Path, fake: Path, run: Run) -> None:
    """JPEG and WebP give it back exactly at several qualities, so that its PSNR is infinite there."""
    Image.new("RGB", (40, 40)).save(photos / "black.png")
    out = fake.parent / "out"
    words = two_peers(photos, out, "psnr,ssimulacra2")
    code, _, err = run(*words)
    note = "exact where others are not, counted with an error of zero: black.png"
    assert (code, err) == (0, f"ddpm-codec: note: {note}\n")
    values = rd_json(out)
    assert values["exact"] == ["black.png"]
    assert values["averaging"]["psnr"] == "10 log10(255^2 / mean over pictures of the MSE)"
    records = {record["name"]: record["points"] for record in values["records"]}
    for curve in values["curves"]["psnr"][2:]:
        assert (curve["pictures"], curve["left_out"], len(curve["settings"])) == (4, [], 9)
        exact = curve["exact"]
        assert sum(exact) > 1
        for setting, value, count in zip(curve["settings"], curve["values"], exact, strict=True):
            found = {
                name: point["metrics"]["psnr"]
                for name, points in records.items()
                for point in points
                if (point["codec"], point["setting"]) == (curve["codec"], setting)
            }
            assert (found["black.png"] is None) == bool(count)
            mse = sum(255**2 * 10 ** (-psnr / 10) for psnr in found.values() if psnr is not None) / 4
            assert value == pytest.approx(10 * np.log10(255**2 / mse), rel=1e-9)
    page = (out / "index.html").read_text()
    assert note in page
    assert "psnr: 10 log10(255^2 / mean over pictures of the MSE)" in page
    # Read back from its records, a run says the same.
    assert run(*words)[0] == 0
    assert rd_json(out) == values


def test_a_picture_that_one_codec_refuses_takes_no_points_from_the_others(photos: Path, fake: Path, run: Run) -> None:
    Image.fromarray(np.zeros((8, 16400, 3), np.uint8) + np.uint8(7)).save(photos / "wide.png")
    out = fake.parent / "out"
    code, printed, err = run(*two_peers(photos, out, "psnr"), "--json")
    assert (code, json.loads(printed)["pictures"]) == (0, 4)
    assert "note: wide.png: webp q0 cannot encode a picture of 16400x8" in err
    assert "note: mean psnr of webp: without wide.png\n" in err
    curves = {curve["codec"]: curve for curve in rd_json(out)["curves"]["psnr"]}
    assert (curves["webp"]["pictures"], curves["webp"]["left_out"], len(curves["webp"]["values"])) == (
        3,
        ["wide.png"],
        9,
    )
    assert (curves["jpeg"]["pictures"], curves["jpeg"]["left_out"]) == (4, [])
    assert "mean psnr of webp: without wide.png" in (out / "index.html").read_text()


def test_pictures_of_a_zip_that_are_not_rgb_are_named_and_left_out(photos: Path, fake: Path, run: Run) -> None:
    Image.fromarray(photo(40, 40)[..., 0]).save(photos / "grey<é>.png")
    (photos / "bad.png").write_bytes(b"no picture")
    with zipfile.ZipFile(photos.parent / "in.zip", "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.write(path, path.relative_to(photos).as_posix())
    out = fake.parent / "out"
    words = ("--peers", "none", "--metrics", "psnr", "--reconstructions", "mean", "--json")
    code, printed, err = run("rd", photos.parent / "in.zip", "-o", out, *words)
    assert (code, err.count("\n"), json.loads(printed)["pictures"]) == (0, 2, 3)
    left = rd_json(out)["left_out"]
    assert [one["path"] for one in left] == [
        f"{photos.parent / 'in.zip'}:{name}" for name in ("bad.png", "grey<é>.png")
    ]
    assert "is not 8-bit RGB (grey counted as three equal channels), but only that can be measured" in left[1]["reason"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "2 of 5 images unusable: " in page
    assert "grey&lt;&#233;&gt;.png: is not 8-bit RGB" in page
    assert "not measured.</p>" in page


def test_metrics_of_other_pictures_have_rows_of_their_own(photos: Path) -> None:
    Image.fromarray(photo(168, 176)).save(photos / "large.png")
    lines: list[str] = []
    report = measure(photos, metrics=["psnr", "ms_ssim"], peers=["jpeg"], note=lines.append)
    rows = [row for row in report.mean_rows() if row["curve"] == "jpeg"]
    assert [(row["pictures"], "psnr" in row, "ms_ssim" in row) for row in rows] == [(4, True, False)] * 9 + [
        (1, False, True)
    ] * 9
    assert lines == [
        "mean ms_ssim of ddpm-codec mean, ddpm-codec flow, ddpm-codec (ideal) mean, ddpm-codec (ideal) flow, jpeg: "
        "without a.png, b.png, sub/c.png"
    ]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["nothing"], "nothing"),
        (["text.npy"], "text.npy"),
        (["grey.png"], "only RGB"),
        (["photos", "--peers", "jpeg,bpg"], "'bpg'"),
        (["photos", "--metrics", "vmaf"], "'vmaf'"),
        (["photos", "--metrics", ""], "no metric"),
        (["photos", "--reconstructions", "median"], "'median'"),
        (["photos", "--reconstructions", "none"], "reconstruction"),
        (["photos", "--model", "nonesuch"], "no such model"),
        (["photos", "-o", "grey.png"], "grey.png"),
        (["photos", "-o", "photos/out"], "is inside photos"),
    ],
)
def test_an_error_is_one_line(
    words: list[str], cause: str, photos: Path, fake: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("text.npy").write_text("no array")
    Image.fromarray(photo(40, 40)[..., 0]).save("grey.png")
    code, out, err = run("rd", "-o", "out", *words, "--json")
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err
    assert not fake.exists()
