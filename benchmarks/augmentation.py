"""Question: do augmented crops look like photographs?

Run: python -m benchmarks.augmentation [--config models/photo_decoder.toml] [--seed 0] [-o docs/results/augmentation.png]

A sheet of 8 x 8 crops as a training step sees them, cut from Kodak photos (which are free to show, and never trained on); and
what preparing one crop costs, with and without augmentation.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, need
from ddpm_codec.image_sets import open_images
from ddpm_codec.training.augment import Augmentation
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler

SIDE, GAP = 8, 2


def main() -> None:
    """Draw the sheet and time the crops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("models/photo_decoder.toml"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/augmentation.png"))
    arguments = parser.parse_args()
    config = TrainConfig.from_sources(arguments.config, {})
    images = open_images(str(need(SHARED_DATA / "kodak")))
    seconds = {}
    for name, chances in (("plain", Augmentation()), ("augmented", config.augmentation)):
        sampler = CropSampler(images, config.crop, flip=config.flip, seed=arguments.seed, augmentation=chances)
        sampler.batch(0, 4 * len(images), slice(None))  # decodes the photos
        started = time.perf_counter()
        crops = sampler.batch(1, SIDE * SIDE, slice(None))
        seconds[name] = (time.perf_counter() - started) / len(crops)
    pitch = config.crop + GAP
    sheet = np.full((SIDE * pitch - GAP, SIDE * pitch - GAP, 3), 255, np.uint8)
    for index, crop in enumerate(crops):
        top, left = (pitch * place for place in divmod(index, SIDE))
        sheet[top : top + config.crop, left : left + config.crop] = crop.transpose(1, 2, 0)
    Image.fromarray(sheet).save(arguments.output, optimize=True)
    print(f"{arguments.output}: {SIDE * SIDE} crops of {config.crop}x{config.crop}")
    print(", ".join(f"{name} {1000 * value:.2f} ms a crop" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
