"""Parses what users type: levels of a chain, sizes, pairs of pictures."""

import math

import numpy as np

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.errors import InputError


def find_places(text: str, chain: Chain) -> tuple[int, ...]:
    """Return the indices of levels of a chain, noisiest first, without repeats.

    Args:
        text: comma-separated items: a log-SNR, which means the nearest level, or a percentage of the chain, where 0% is
            the cleanest level and 100% the noisiest.
        chain: the levels.

    Raises:
        InputError: an item is neither, or is outside the chain.
    """
    return tuple(sorted({_place(item.strip(), chain) for item in text.split(",")}, reverse=True))


def spread_places(chain: Chain, count: int) -> tuple[int, ...]:
    """Return ``count`` level indices, evenly from the noisiest to the cleanest, or all levels if there are fewer."""
    places = np.linspace(0, chain.steps, min(count, chain.steps + 1))
    return tuple(np.rint(places).astype(int).tolist()[::-1])


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels from ``WxH``, or from one number for both.

    Raises:
        InputError: the text has another form.
    """
    numbers = _integers(text.lower(), "x")
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise InputError(f"size = {text!r}: must be WIDTHxHEIGHT, such as 32x32")
    return numbers[0], numbers[-1]


def parse_pair(text: str) -> tuple[int, int]:
    """Return the two indices of ``I,J``, each 0 or more.

    Raises:
        InputError: the text has another form.
    """
    numbers = _integers(text, ",")
    if len(numbers) != 2 or min(numbers) < 0:
        raise InputError(f"pair = {text!r}: must be two indices, such as 0,1")
    return numbers[0], numbers[1]


def _place(item: str, chain: Chain) -> int:
    share = item.endswith("%")
    try:
        value = float(item.removesuffix("%"))
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InputError(f"level {item!r}: must be a log-SNR or a percentage of the chain, such as 25%")
    if share:
        if not 0.0 <= value <= 100.0:
            raise InputError(f"level {item}: must be from 0% to 100% of the chain")
        return round(0.01 * value * chain.steps)
    most, least = chain.log_snr[0], chain.log_snr[-1]
    if not least <= value <= most:
        raise InputError(f"level {item}: is outside the chain, which has log-SNR {most:.4g} to {least:.4g}")
    return int(np.abs(np.array(chain.log_snr) - value).argmin())


def _integers(text: str, separator: str) -> list[int]:
    """Return the integers of a text, or [-1] if an item is not one."""
    try:
        return [int(part) for part in text.split(separator)]
    except ValueError:
        return [-1]
