"""Small sets of pictures, and workers in this process: Ray takes seconds to start, and is tested where it matters."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.bulk import bound, decode, encode, verify
from ddpm_codec.bulk.engine import Cluster, Outcome, Worker, raise_fatal
from ddpm_codec.bulk.tally import Tally
from tests.helpers import PHOTO


class Told:
    """Stands for the actor that adds up what workers have done."""

    def __init__(self) -> None:
        self.tell = self
        self.total = Tally()

    def remote(self, _: int, done: Tally, ended: bool) -> None:
        self.total = done


class PoolHere:
    """Does what a pool of Ray's does, in this process and one task after the other."""

    size, device = 1, "cpu"

    @classmethod
    @contextmanager
    def connected(cls, _: Cluster) -> Iterator["PoolHere"]:
        """Stand for ``connected``."""
        yield cls()

    def run(
        self, make: Callable[[], Any], tasks: Iterable[Any], standing: Callable[[Tally], None]
    ) -> Iterator[Outcome[Any, Any]]:
        board = Told()
        worker = Worker(make, board)
        whole = Tally()
        for key, task in enumerate(tasks):
            result = worker.run(key, task)
            whole = whole.plus(board.total)
            standing(whole)
            raise_fatal(result)
            yield Outcome(task, result)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bulk work run in this process."""
    for module in (bound, decode, encode, verify):
        monkeypatch.setattr(module, "connected", PoolHere.connected)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve small pictures, in two folders, and what is none."""
    folder = tmp_path / "pictures"
    photo = np.asarray(Image.open(PHOTO))
    for number in range(12):
        place = folder / ("a" if number % 3 else "b")
        place.mkdir(parents=True, exist_ok=True)
        row, column = divmod(number, 4)
        tile = Image.fromarray(photo[32 * row : 32 * row + 32, 32 * column : 32 * column + 24 + number % 2])
        (tile.convert("L") if number == 5 else tile).save(place / f"{number:02d}.png")
    (folder / "a" / "notes.txt").write_text("not a picture")
    return folder
