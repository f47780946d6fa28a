"""Every kind of DATA, and what is refused."""

import io
import itertools
import os
import pickle
import struct
import zipfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_sets import (
    Change,
    ImageSet,
    Opened,
    change_lines,
    concatenate,
    from_array,
    open_images,
    read_all,
    refusal,
)

Pictures = NDArray[np.uint8]


def zipped(file: Path) -> Path:
    """Return a zip of a file, beside it."""
    packed = file.with_name("in.zip")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(file, file.name)
    return packed


@pytest.fixture
def pictures() -> Pictures:
    """Smooth random pictures, [24, 24, 32, 3]."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (24, 3, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(coarse + rng.integers(-9, 10, coarse.shape), 0, 255).astype(np.uint8)


def save_png(pixels: Pictures, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def same(images: ImageSet, expected: Pictures) -> bool:
    return len(images) == len(expected) and all(map(np.array_equal, images, expected))


def test_folder_nested_and_sorted(tmp_path: Path, pictures: Pictures) -> None:
    for index, name in enumerate(["b.png", "a/deep/x.PNG", "a/y.png"]):
        save_png(pictures[index], tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    images = open_images(str(tmp_path))
    assert images.names == ["a/deep/x.PNG", "a/y.png", "b.png"]
    assert same(images, pictures[[1, 2, 0]])


def test_single_image(tmp_path: Path, pictures: Pictures) -> None:
    assert same(open_images(str(save_png(pictures[0], tmp_path / "one.png"))), pictures[:1])


def test_modes_become_rgb(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "b.png")
    images = open_images(str(tmp_path))
    assert images[0].tolist() == [[[1, 2, 3]] * 8] * 8
    assert images[1].tolist() == [[[9, 9, 9]] * 8] * 8


def test_zip(tmp_path: Path, pictures: Pictures) -> None:
    with zipfile.ZipFile(tmp_path / "set.ZIP", "w") as archive:
        for index, name in enumerate(["b/x.png", "a.png"]):
            content = io.BytesIO()
            Image.fromarray(pictures[index]).save(content, "PNG")
            archive.writestr(name, content.getvalue())
        archive.writestr("__MACOSX/._a.png", b"no picture")
        archive.writestr("folder.png/", b"")
    images = open_images(str(tmp_path / "set.ZIP"))
    assert images.names == ["a.png", "b/x.png"]
    assert same(images, pictures[[1, 0]])


@pytest.mark.parametrize("name", ["set.npy", "set.npz", "packed.npz"])
def test_arrays(name: str, tmp_path: Path, pictures: Pictures) -> None:
    path = tmp_path / name
    if name == "set.npy":
        np.save(path, pictures)
    else:
        save = np.savez_compressed if name == "packed.npz" else np.savez
        save(path, labels=np.arange(5), images=pictures)
    assert same(open_images(str(path)), pictures)


def cifar_rows(pictures: Pictures) -> Pictures:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(pictures), -1)


def test_cifar10(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    for index in range(2):
        batch = {b"data": cifar_rows(pictures[3 * index : 3 * index + 3]), b"labels": [0, 1, 2], b"batch_label": b"x"}
        (tmp_path / f"data_batch_{index + 1}").write_bytes(pickle.dumps(batch, protocol=2))
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": cifar_rows(pictures[:1])}))
    assert same(open_images(str(tmp_path)), pictures)
    assert same(open_images(str(tmp_path / "data_batch_2")), pictures[3:])
    assert same(open_images(str(tmp_path / "test_batch")), pictures[:1])


def test_cifar10_as_python_2_wrote_it(tmp_path: Path) -> None:
    """Strings of Python 2 (opcode U) under the names that numpy had then."""
    pixels = bytes(range(256)) * 12
    text = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nI3072\nt"
    )
    text += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
    text += b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tbs."
    (tmp_path / "data_batch_1").write_bytes(text)
    image = open_images(str(tmp_path))[0]
    assert image.transpose(2, 0, 1).tobytes() == pixels


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    content = pickle.dumps({b"data": Hostile(target)})
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=r"data_batch_1: not a CIFAR-10 batch \(.*mkdir is not allowed here\)"):
        open_images(str(tmp_path))
    np.save(tmp_path / "objects.npy", np.array([Hostile(target)]), allow_pickle=True)
    with pytest.raises(InputError, match=r"objects\.npy: not a readable array file"):
        open_images(str(tmp_path / "objects.npy"))
    assert not target.exists()
    pickle.loads(content)
    assert target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00.",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": b"abc"}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32)}),
        pickle.dumps({b"data": np.zeros((2, 3071), np.uint8)}),
        pickle.dumps({b"data": np.zeros((0, 3072), np.uint8)}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)})[:-100],
        b"\x07" * 3073,
    ],
)
def test_what_is_no_cifar10_batch(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=r"\A[^\n]*data_batch_1: not a CIFAR-10 batch \([^\n]+\)\Z"):
        open_images(str(tmp_path))


@pytest.mark.parametrize("folder", ["plain", "with:colon", "two:co:lons"])
def test_sheets(folder: str, tmp_path: Path, pictures: Pictures) -> None:
    sheet = pictures.reshape(4, 6, 24, 32, 3).swapaxes(1, 2).reshape(96, 192, 3)
    path = save_png(sheet, tmp_path / folder / "sheet.png")
    images = open_images(f"sheet:{path}:32x24")
    assert same(images, pictures)
    assert len(set(images.names)) == 24
    save_png(sheet[:24], tmp_path / folder / "t_last.png")
    assert same(open_images(f"sheet:{path.parent}:32x24"), np.concatenate([pictures, pictures[:6]]))


@pytest.mark.parametrize("cell", ["30x24", "32x25", "32x96", "1000x1000"])
def test_sheets_that_are_no_grid(cell: str, tmp_path: Path, pictures: Pictures) -> None:
    path = save_png(pictures[0], tmp_path / "sheet.png")
    with pytest.raises(InputError, match=rf"sheet\.png: 32x24 is not a grid of {cell} cells"):
        open_images(f"sheet:{path}:{cell}")


@pytest.mark.parametrize("text", ["sheet:", "sheet:x.png", "sheet:x.png:32", "sheet:x.png:axb", "sheet:x.png:1x2x3"])
def test_sheets_written_wrongly(text: str) -> None:
    with pytest.raises(InputError, match="expected sheet:FILE:WIDTHxHEIGHT"):
        open_images(text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "DATA: no such file"),
        ("missing", "missing: no such file"),
        ("nul\0byte", "no such file"),
        ("x" * 5000, "no such file"),
        ("missing.npz", r"missing\.npz: no such file"),
        ("sheet:missing.png:8x8", r"missing\.png: no such file"),
        ("sheet::8x8", "no such file"),
        ("sheet:a.png:0x8", "at least one pixel"),
        ("sheet:a.png:8x-8", "at least one pixel"),
    ],
)
def test_what_is_not_there(text: str, cause: str) -> None:
    with pytest.raises(InputError, match=rf"\A[^\n]*{cause}[^\n]*\Z"):
        open_images(text)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="the folder has no pictures"):
        open_images(str(tmp_path))
    with pytest.raises(InputError, match=r"a\.txt: is not an image"):
        open_images(str(tmp_path / "a.txt"))[0]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
    ],
)
def test_arrays_of_another_kind(array: NDArray[np.generic], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", a=array)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match=r"expected a uint8 array of shape \[N, H, W, 3\], found \w+ \["):
            open_images(str(tmp_path / name))


def test_damaged_files_are_one_line(tmp_path: Path, pictures: Pictures) -> None:
    np.save(tmp_path / "x.npy", pictures)
    np.savez_compressed(tmp_path / "x.npz", a=pictures)
    save_png(pictures[0], tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "x.png", "x.png")
    for name in ("x.npy", "x.npz", "x.zip", "x.png"):
        whole = (tmp_path / name).read_bytes()
        bent = bytearray(whole)
        bent[len(bent) // 2] ^= 0xFF
        for content in (b"", whole[:4], whole[: len(whole) // 2], bytes(bent), b"garbage" * 100):
            (tmp_path / name).write_bytes(content)
            if name == "x.npy" and content == bytes(bent):
                continue  # an array has no checksum
            with pytest.raises(InputError, match=rf"\A[^\n]*{name}[^\n]*\Z"):
                open_images(str(tmp_path / name))[0]


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: I;16 pixels have more than 8 bits"):
        open_images(str(tmp_path))[0]


def test_image_sets_are_sequences(pictures: Pictures) -> None:
    calls: list[int] = []

    def load(index: int) -> Opened:
        calls.append(index)
        return Opened(pictures[index])

    images = ImageSet([str(i) for i in range(24)], load, cache_bytes=2 * pictures[0].nbytes)
    assert np.array_equal(images[-1], pictures[23])
    assert len(images[3:5]) == 2
    subset = images.subset([23, 3, 4])
    assert subset.names == ["23", "3", "4"]
    assert same(subset, pictures[[23, 3, 4]])
    assert calls == [23, 3, 4, 4]
    for index in (24, -25):
        with pytest.raises(IndexError):
            images[index]


def test_sets_one_after_the_other(pictures: Pictures) -> None:
    first, second = from_array(pictures[:3], "a"), from_array(pictures[3:5], "b")
    both = concatenate([first, second])
    assert both.names == ["a000000", "a000001", "a000002", "b000000", "b000001"]
    assert same(both, pictures[:5])
    assert concatenate([first]) is first


def grey_with_alpha(size: tuple[int, int]) -> Image.Image:
    return Image.merge("LA", [Image.new("L", size, 9), Image.new("L", size, 100)])


def two_frames(path: Path) -> None:
    first, second = (Image.new("P", (8, 8), index) for index in (0, 1))
    first.putpalette([1, 2, 3, 250, 0, 0])
    second.putpalette([1, 2, 3, 250, 0, 0])
    first.save(path, save_all=True, append_images=[second])


def write_kinds(folder: Path) -> None:
    """Write a picture of every kind that becomes another one as 8-bit RGB, and one that stays."""
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "a.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(folder / "b.png")
    Image.new("L", (8, 8), 9).save(folder / "c.png")
    grey_with_alpha((8, 8)).save(folder / "d.png")
    indexed = Image.new("P", (8, 8), 1)
    indexed.putpalette([0, 0, 0, 4, 5, 6])
    indexed.save(folder / "e.png")
    indexed.save(folder / "f.png", transparency=b"\x00\x80")
    Image.new("1", (8, 8), 1).save(folder / "g.png")
    Image.new("CMYK", (8, 8), (10, 20, 30, 40)).save(folder / "h.tif")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "i.png", transparency=(1, 2, 3))
    two_frames(folder / "j.gif")


KINDS = {
    "a.png": "",
    "b.png": "alpha dropped",
    "c.png": "grey counted as three equal channels",
    "d.png": "grey counted as three equal channels, alpha dropped",
    "e.png": "palette expanded",
    "f.png": "palette expanded, transparency dropped",
    "g.png": "two levels counted as three equal channels",
    "h.tif": "CMYK converted to RGB",
    "i.png": "transparency dropped",
    "j.gif": "palette expanded, first frame only",
}
COLOURS = {
    "a": (1, 2, 3),
    "b": (1, 2, 3),
    "c": (9,) * 3,
    "d": (9,) * 3,
    "e": (4, 5, 6),
    "f": (4, 5, 6),
    "g": (255,) * 3,
}


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_changed_is_said_by_the_header_and_by_the_image(packed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_kinds(folder)
    if packed:
        with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in KINDS:
                archive.write(folder / name, name)
    images = open_images(str(folder) + (".zip" if packed else ""), first_frame=True)
    assert images.names == list(KINDS)
    assert images.paths == [f"{folder}{'.zip:' if packed else '/'}{name}" for name in KINDS]
    for index, (name, changed) in enumerate(KINDS.items()):
        assert images.header(index) == ((8, 8), changed)
        opened = images.opened(index)
        assert opened.changed == changed
        assert (opened.pixels.shape, opened.pixels.dtype) == ((8, 8, 3), np.dtype(np.uint8))
        if name[0] in COLOURS:
            assert {tuple(pixel) for pixel in opened.pixels.reshape(-1, 3).tolist()} == {COLOURS[name[0]]}


@pytest.mark.parametrize(
    ("kind", "packed"),
    [*itertools.product(("grey", "colour", "tiff", "frames"), (False, True)), ("postscript", True)],
)
def test_what_is_refused_is_refused_by_its_header(kind: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("x.tif" if kind == "tiff" else "x.gif" if kind == "frames" else "x.png")
    deep = np.full((8, 8, 3), 40000, np.uint16)
    cause = "more than 8 bits"
    if kind == "grey":
        Image.fromarray(deep[..., 0]).save(path)
    elif kind == "colour":
        path.write_bytes(imagecodecs.png_encode(deep))
    elif kind == "tiff":
        tifffile.imwrite(path, deep, photometric="rgb")
    elif kind == "frames":
        two_frames(path)
        cause = "has 2 frames"
    else:
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
        cause = "not an image"
    images = open_images(str(zipped(path) if packed else path))
    for read in (images.header, images.opened):
        with pytest.raises(InputError, match=rf"\A[^\n]*{path.name}: [^\n]*{cause}[^\n]*\Z") as caught:
            read(0)
        assert str(caught.value).startswith(images.paths[0])


def test_headers_are_read_without_decoding(tmp_path: Path, pictures: Pictures) -> None:
    path = save_png(pictures[0], tmp_path / "x.png")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    images = open_images(str(path))
    assert images.header(0).size == (32, 24)
    with pytest.raises(InputError, match=r"x\.png"):
        images.opened(0)


def test_cells_of_a_grey_sheet_say_so_once(tmp_path: Path) -> None:
    Image.new("L", (16, 8), 5).save(tmp_path / "s.png")
    images = open_images(f"sheet:{tmp_path / 's.png'}:8x8")
    assert [images.header(index) for index in range(2)] == [((8, 8), "grey counted as three equal channels")] * 2
    assert read_all(images) == [Change(str(tmp_path / "s.png"), "grey counted as three equal channels")]


def test_lines_about_many_images() -> None:
    changes = [Change(f"{index}.png", "alpha dropped") for index in range(13)] + [
        Change("x.gif", "first frame only")
    ] * 2
    first, second = change_lines(changes)
    names = ", ".join(f"{index}.png" for index in range(10))
    assert first == f"alpha dropped: 13 images ({names}, and 3 more)"
    assert second == "first frame only: 1 image (x.gif)"
    bad = [Untaken(f"{index}.png", "is damaged") for index in range(12)]
    assert str(refusal(bad[:1], 1)) == "0.png: is damaged"
    assert str(refusal(bad[:2], 9, "!")) == "2 of 9 images unusable: 0.png: is damaged; 1.png: is damaged!"
    assert str(refusal(bad, 40)).endswith("9.png: is damaged; and 2 more")


def test_a_name_twice_in_a_zip_is_two_images(tmp_path: Path, pictures: Pictures) -> None:
    for index in range(2):
        save_png(pictures[index], tmp_path / f"{index}.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "0.png", "a.png")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(tmp_path / "1.png", "a.png")
    assert same(open_images(str(tmp_path / "x.zip")), pictures[:2])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("largest", "line"), [(100, "white at 100"), (1, "white at 1;"), (65535, "more than 8 bits")])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_samples_of_another_scale_are_refused_by_the_header_and_by_the_image(
    kind: bytes, largest: int, line: str, packed: bool, tmp_path: Path
) -> None:
    file = tmp_path / "a.ppm"
    samples = bytes(8 * 8 * (3 if kind == b"P6" else 1) * (2 if largest > 255 else 1))
    file.write_bytes(b"%s\n8 8\n%d\n" % (kind, largest) + samples)
    images = open_images(str(zipped(file) if packed else file))
    for read in (images.header, images.opened):
        with pytest.raises(InputError, match=rf"a\.ppm: .*{line}"):
            read(0)


def deep_files() -> dict[str, bytes]:
    """Return files of 10 and 16 bits a sample, of which Pillow's header does not always tell."""
    samples = np.random.default_rng(0).integers(0, 1024, (16, 16, 3)).astype(np.uint16)
    planar = io.BytesIO()
    tifffile.imwrite(planar, samples.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    return {
        "a.avif": bytes(imagecodecs.avif_encode(samples, bitspersample=10, level=100)),
        "a.jp2": bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True)),
        "a.png": bytes(imagecodecs.png_encode(samples)),
        "a.sgi": struct.pack(">HBBHHHH4xI80x", 474, 0, 2, 3, 16, 16, 3, 65535).ljust(512, b"\0") + samples.tobytes(),
        "a.tif": planar.getvalue(),
    }


@pytest.mark.parametrize("name", ["a.avif", "a.jp2", "a.png", "a.sgi", "a.tif"])
def test_more_than_8_bits_are_found_by_the_header(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(deep_files()[name])
    images = open_images(str(tmp_path / name))
    for read in (images.header, images.opened):
        with pytest.raises(InputError, match=rf"{name}: .*pixels have more than 8 bits"):
            read(0)


def test_members_of_a_zip_are_told_apart_by_their_first_bytes(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(png, "PNG")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in (("a", png.getvalue()), ("b.heic", heic), ("c.txt", b"words"), (".d/e.png", png.getvalue())):
            archive.writestr(name, data)
    images = open_images(str(tmp_path / "x.zip"))
    assert (images.names, images[0][0, 0].tolist()) == (["a"], [255, 0, 0])
    assert {one.path.rpartition(":")[2]: one.reason for one in images.left_out} == {
        "b.heic": "HEIC is a format that cannot be read",
        "c.txt": "is no picture of a format that is read",
        ".d/e.png": "is hidden",
    }
