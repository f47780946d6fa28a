"""Pictures that several benchmarks code one by one."""

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, Pixels, need

SEED = 0


def pictures(name: str, limit: int | None) -> dict[str, Pixels]:
    """Return the pictures of a set by name."""
    if name == "cifar":
        images = test_images()
        chosen = np.random.default_rng(SEED).permutation(len(images))[: limit or 200]
        return {f"{index:05d}": images[index] for index in sorted(chosen.tolist())}
    paths = sorted(need(SHARED_DATA / "kodak").glob("*.png"))[:limit]
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in paths}
