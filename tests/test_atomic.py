"""What an output may not be, before any work is done for it."""

import os
from pathlib import Path

import pytest

from ddpm_codec.atomic import check_target
from ddpm_codec.errors import InputError, OutputError, OutputExistsError


def test_an_input_is_never_the_output(tmp_path: Path) -> None:
    source, link = tmp_path / "a.png", tmp_path / "link.png"
    source.write_bytes(b"a")
    os.link(source, link)
    for output in (source, link):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="is one of the inputs"):
                check_target(output, overwrite=overwrite, sources=[tmp_path / "none", str(source)])
    check_target(tmp_path / "b.png", overwrite=False, sources=[source, tmp_path / "none"])
    check_target(source, overwrite=True, sources=[tmp_path / "b.png", tmp_path / "none"])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(OutputExistsError, match="a: already exists"):
        check_target(tmp_path / "a", overwrite=False)
    for output in (tmp_path, tmp_path / "none" / "a", tmp_path / "a" / "b"):
        with pytest.raises(OutputError):
            check_target(output, overwrite=True)
