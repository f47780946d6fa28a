"""An exact model opens anywhere, unless its numbers or its coding tables are not what its file was made with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddpm_codec.codecs import session as session_module
from ddpm_codec.codecs.session import INDEX_STEPS, CodingSession, Model
from ddpm_codec.errors import ModelError
from ddpm_codec.files import decode_file, encode_files
from ddpm_codec.models.model_file import load_model, model_bytes
from tests.golden.regenerate import EXACT, FOLDER
from tests.toy_exact import LONGEST, write_toy_exact

ONE_LINE = r"\A[^\n]+\Z"


def test_the_model_carries_the_hash_of_the_coding_tables(tmp_path: Path) -> None:
    from ddpm_codec.coding.tables import tables_hash

    model = load_model(EXACT)
    assert model.tables == tables_hash()
    other = tmp_path / "other.safetensors"
    other.write_bytes(model_bytes(replace(model, tables="0" * 64)))
    with pytest.raises(
        ModelError, match=r"\Amodel tiny was made with other coding tables \(hash 000000000000, here \w+"
    ):
        CodingSession.for_encoding(str(other), "cpu").lattice()


def test_a_model_with_another_hash_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(model_bytes(replace(load_model(EXACT), description="one letter more")))
    with pytest.raises(ModelError, match=ONE_LINE):
        decode_file(FOLDER / "noise.ddpm", tmp_path / "x.png", model=other)
    assert not (tmp_path / "x.png").exists()


def test_a_model_that_could_overflow_is_refused(tmp_path: Path) -> None:
    model = load_model(EXACT)
    assert model.exact is not None
    layer = model.exact.layers["middle.0.second"]
    heavy = replace(layer, offset=np.full_like(layer.offset, 1 << 24))
    exact = replace(model.exact, layers=model.exact.layers | {"middle.0.second": heavy})
    path = tmp_path / "heavy.safetensors"
    path.write_bytes(model_bytes(replace(model, exact=exact)))
    picture = FOLDER.parent / "data" / "shutters_128x128.png"
    with pytest.raises(
        ModelError, match=r"\A[^\n]*heavy\.safetensors: layer middle\.0\.second: its sums could reach [^\n]+\Z"
    ):
        encode_files([picture], tmp_path / "x.ddpm", model=str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["heavy.safetensors"]


def test_threads_of_this_process_are_left_alone_by_exact_files(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        decode_file(FOLDER / "noise.ddpm", tmp_path / "x.png", model=EXACT)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [(0,), (0, 1, 80), (0, -1, 3), (0.0, 1.0, 2.0)])
def test_a_chain_without_rows_in_the_tables_is_refused(rows: tuple[int, ...], tmp_path: Path) -> None:
    model = load_model(EXACT)
    path = tmp_path / "m.safetensors"
    path.write_bytes(model_bytes(replace(model, rows=model.rows | {(0, 2): rows})))
    with pytest.raises(
        ModelError, match=r"\A[^\n]*m\.safetensors: [^\n]*its chains do not have rows in its tables[^\n]*\Z"
    ):
        load_model(path)


def test_indices_have_a_chain_of_their_own_unless_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.open(write_toy_exact(tmp_path), device="cpu")
    indices = model.session().for_indices()
    assert (indices.steps, indices.crossing) == (INDEX_STEPS, model.codec_model.default_crossing)
    asked = model.session(3, 1)
    assert asked.for_indices() is asked
    # A model without it has that of progressive files.
    monkeypatch.setattr(session_module, "INDEX_STEPS", LONGEST + 1)
    indices = model.session().for_indices()
    assert (indices.steps, indices.crossing) == (2, 1)
