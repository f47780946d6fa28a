"""Where pictures are: folders, patterns, tars, an S3 server on this machine; in which order, and what is left out."""

import io
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import boto3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from PIL import Image

from ddpm_codec.bulk import BulkOptions, bulk_decode, bulk_encode, bulk_verify
from ddpm_codec.bulk.entries import Entry, entries_of, table_of
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.source import Source, _length, _spans
from ddpm_codec.errors import InputError, MissingDependencyError
from ddpm_codec.image_io import list_inputs


def tar_of(folder: Path, target: Path, mode: str = "w") -> list[str]:
    names = sorted((path.relative_to(folder).as_posix() for path in folder.rglob("*.png")), reverse=True)
    with tarfile.open(target, mode) as tar:  # type: ignore[call-overload]
        for name in names:
            tar.add(folder / name, name)
            label = tarfile.TarInfo(name.removesuffix(".png") + ".cls")
            label.size = 1
            tar.addfile(label, io.BytesIO(b"7"))
    return names


def names(url: str | Path) -> list[str]:
    return [entry.name for entry in entries_of(Source(str(url)).listing().table)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server; its address."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket on it, which fsspec reaches as s3://pictures."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="pictures")
    for one in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=one["Key"])
    return "s3://pictures"


def test_a_folder_is_listed_as_encode_lists_it(pictures: Path) -> None:
    listing = Source(str(pictures)).listing()
    assert [entry.name for entry in entries_of(listing.table)] == [name for _, name in list_inputs([pictures]).files]
    assert [one.path for one in listing.left_out] == [str(pictures / "a" / "notes.txt")]


def test_relative_paths_are_named_as_given(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    source = Source("pictures/")
    assert source.label(entries_of(source.listing().table)[0]) == "pictures/a/01.png"


def test_patterns_name_pictures_from_the_folder_in_front(pictures: Path) -> None:
    assert names(pictures / "*" / "0*.png") == [name for name in names(pictures) if name.split("/")[1].startswith("0")]
    assert names(pictures / "b" / "*.png") == ["00.png", "03.png", "06.png", "09.png"]
    assert names(pictures / "b" / "03.png") == ["03.png"]


def test_a_tar_gives_its_pictures_in_its_order(pictures: Path, tmp_path: Path) -> None:
    inside = tar_of(pictures, tmp_path / "set.tar")
    source = Source(str(tmp_path / "set.tar"))
    listing = source.listing(pixels=True)
    entries = entries_of(listing.table)
    assert [entry.name for entry in entries] == inside
    assert [one.reason for one in listing.left_out] == ["12 files in it have no extension of a picture"]
    assert source.label(entries[0]) == f"{tmp_path / 'set.tar'}!{inside[0]}"
    for entry, data in source.read_ahead(entries):
        assert data() == (pictures / entry.name).read_bytes()
        with Image.open(pictures / entry.name) as image:
            assert entry.pixels == image.width * image.height


def test_tars_of_a_pattern_put_their_names_in_front(pictures: Path, tmp_path: Path) -> None:
    for number in range(2):
        tar_of(pictures, tmp_path / f"part-{number}.tar")
    found = names(tmp_path / "part-*.tar")
    assert found[0] == "part-0/b/09.png"
    assert len(set(found)) == 24


def test_compressed_and_damaged_tars_are_refused(pictures: Path, tmp_path: Path) -> None:
    tar_of(pictures, tmp_path / "set.tar.gz", "w:gz")
    with pytest.raises(InputError, match="is a compressed tar"):
        names(tmp_path / "set.tar.gz")
    (tmp_path / "set.tar.gz").rename(tmp_path / "set.tar")
    with pytest.raises(InputError, match=r"set\.tar: cannot be read as an uncompressed tar"):
        names(tmp_path / "set.tar")


def test_a_tar_that_is_cut_anywhere_is_refused(pictures: Path, tmp_path: Path) -> None:
    tar_of(pictures, tmp_path / "whole.tar")
    whole = (tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        last = max(member.offset_data + member.size for member in tar)
        heads = [member.offset for member in tar]
    cuts = [*range(100, last, 1777), *(head + more for head in heads for more in (0, 100, 512)), last]
    for cut in cuts:
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut\.tar"):
            names(tmp_path / "cut.tar")


def test_links_in_a_tar_are_named(pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(pictures / "a" / "01.png", "x.png")
        link = tarfile.TarInfo("y.png")
        link.type, link.linkname = tarfile.LNKTYPE, "x.png"
        tar.addfile(link)
    listing = Source(str(tmp_path / "set.tar")).listing()
    assert [entry.name for entry in entries_of(listing.table)] == ["x.png"]
    assert [str(one).rsplit("!")[1] for one in listing.left_out] == ["y.png: is a link, or no ordinary file"]


def test_names_with_brackets_hidden_folders_and_links(pictures: Path, tmp_path: Path) -> None:
    odd = tmp_path / ".hidden" / "odd [x]"
    odd.mkdir(parents=True)
    (odd / "01.png").write_bytes((pictures / "a" / "01.png").read_bytes())
    (odd / "02.png").symlink_to(pictures / "a" / "02.png")
    (odd / "03.png").symlink_to(pictures / "a" / "gone.png")
    assert names(odd) == ["01.png", "02.png"]
    listing = Source(str(tmp_path / ".hidden" / "odd*" / "*.png")).listing()
    assert [entry.name for entry in entries_of(listing.table)] == ["odd [x]/01.png", "odd [x]/02.png"]
    assert [one.reason for one in listing.left_out] == ["is a link to no file"]


def test_a_name_that_is_there_twice_is_refused_and_the_others_are_not(pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in ("x.png", "x.png", "../y.png", "z.png"):
            tar.add(pictures / "a" / "01.png", name)
    listing = Source(str(tmp_path / "set.tar")).listing()
    assert [entry.name for entry in entries_of(listing.table)] == ["x.png", "z.png"]
    assert [one.path.rsplit("!")[1] for one in listing.refused] == ["x.png", "../y.png"]


@pytest.mark.parametrize("missing", ["nothing", "nothing/*.png", "empty"])
def test_nothing_is_one_line(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=missing.replace("*", r"\*")):
        names(tmp_path / missing)


def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere://x"):
        Place("nowhere://x")
    with pytest.raises(InputError, match="empty"):
        Place("")
    with pytest.raises(MissingDependencyError, match="gs://x"):
        Place("gs://x")


def test_a_picture_that_changed_length_since_is_said_to(pictures: Path) -> None:
    source = Source(str(pictures))
    entry = entries_of(source.listing().table)[0]
    (pictures / entry.name).write_bytes(b"short")
    with pytest.raises(InputError, match="has 5 bytes, where the listing has"):
        source.read(entry)


def test_neighbours_in_a_tar_are_read_in_one_request(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar_of(pictures, tmp_path / "set.tar")
    source = Source(str(tmp_path / "set.tar"))
    entries = entries_of(source.listing().table)
    requests: list[tuple[int, int | None]] = []
    read = Place.read

    def counting(self: Place, path: str, start: int = 0, end: int | None = None) -> bytes:
        requests.append((start, end))
        return read(self, path, start, end)

    monkeypatch.setattr(Place, "read", counting)
    assert [data() for _, data in source.read_ahead(entries)] == [(pictures / e.name).read_bytes() for e in entries]
    assert requests == [(entries[0].offset, entries[-1].offset + entries[-1].bytes)]
    # In another order they are no neighbours.
    requests.clear()
    found = [(entry, data()) for entry, data in source.read_ahead(entries[::-1])]
    assert found == [(entry, (pictures / entry.name).read_bytes()) for entry in entries[::-1]]
    assert len(requests) == len(entries)


def test_a_tar_that_became_shorter_fails_its_pictures_alone(pictures: Path, tmp_path: Path) -> None:
    tar_of(pictures, tmp_path / "set.tar")
    source = Source(str(tmp_path / "set.tar"))
    entries = entries_of(source.listing().table)
    (tmp_path / "set.tar").write_bytes((tmp_path / "set.tar").read_bytes()[: entries[6].offset])
    for _, data in source.read_ahead(entries):
        with pytest.raises(InputError, match=r"set\.tar: has become shorter"):
            data()


@given(st.lists(st.integers(0, 3 << 20), min_size=1, max_size=12), st.data())
def test_spans_are_the_entries_in_order_within_bounds(lengths: list[int], data: st.DataObject) -> None:
    entries, at = [], 0
    for number, length in enumerate(lengths):
        at += data.draw(st.sampled_from([0, 512, 1 << 16, (1 << 16) + 1]))
        entries.append(Entry(str(number), data.draw(st.sampled_from("ab")), at, length))
        at += length
    spans = list(_spans(entries))
    assert [entry for span in spans for entry in span] == entries
    for span in spans:
        assert len(span) == 1 or _length(span) <= 1 << 22
        assert len({entry.file for entry in span}) == 1
        for before, after in pairwise(span):
            assert 0 <= after.offset - before.offset - before.bytes <= 1 << 16


entry_lists = st.lists(
    st.builds(
        Entry,
        st.text(max_size=8),
        st.text(max_size=8),
        st.integers(-1, 2**60),
        st.integers(0, 2**60),
        st.integers(0, 9),
    ),
    max_size=9,
)


@given(entry_lists, st.integers(0, 9), st.integers(0, 9))
def test_tables_give_their_entries_back(entries: list[Entry], start: int, stop: int) -> None:
    assert entries_of(table_of(entries), start, stop) == entries[start : max(start, stop)]


@pytest.mark.usefixtures("here")
def test_from_a_tar_on_s3_to_shards_on_s3_and_back(pictures: Path, bucket: str, tmp_path: Path) -> None:
    inside = tar_of(pictures, tmp_path / "set.tar")
    Place(bucket).write("sets/set.tar", (tmp_path / "set.tar").read_bytes())
    options = BulkOptions(model="none", shard_images=5)
    report = bulk_encode(f"{bucket}/sets/set.tar", f"{bucket}/out", options)
    assert (report.pictures, report.failed, report.shards) == (12, 0, 3)
    assert bulk_encode(f"{bucket}/sets/set.tar", f"{bucket}/out/", options).kept_shards == 3
    assert not bulk_verify(f"{bucket}/out").wrong
    # The same pictures in the same order are the same bytes, wherever they lie.
    bulk_encode(str(tmp_path / "set.tar"), str(tmp_path / "out"), options)
    for number in range(3):
        name = f"shard-{number:06d}.ddpm"
        assert Place(f"{bucket}/out").read(f"pictures/out/{name}") == (tmp_path / "out" / name).read_bytes()
    bulk_decode(f"{bucket}/out", f"{bucket}/back", kind="tar")
    bulk_decode(f"{bucket}/out", str(tmp_path / "back"))
    for name in inside:
        original = np.asarray(Image.open(pictures / name))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back" / name)), original)
    back = Place(f"{bucket}/back")
    assert back.all_names() == {f"shard-{number:06d}.tar" for number in range(3)}
    with tarfile.open(fileobj=io.BytesIO(back.read("pictures/back/shard-000000.tar"))) as tar:
        assert tar.getnames() == inside[:5]


def test_an_unreachable_store_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="s3://absent"):
        names("s3://absent/x")
    with pytest.raises(InputError, match="no such file or folder"):
        names(f"{bucket}/nothing")
