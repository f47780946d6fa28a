"""Question: where does the time of encoding and of decoding a photo go, beside what the products take at their peak?

Run: python -m benchmarks.stages [--model photo] [--photo kodim13] [--progressive] [--repeat 3] [--json FILE]
One worker in this process, after one encoding and decoding to warm up; the own time of each stage on the processor (thread
time), from that run of the repeats whose whole is the median. Stages:

- denoiser, decoder's trunk: products (byte convolutions of oneDNN), passes (the compiled element-wise loops between them and
  at the ends), rest in Python;
- pixels: masked network of all pixels at once, then laws and ANS (encoding); all in one loop (decoding);
- chain: arithmetic of latents, choice of tables, ANS (constriction); messages instead in a progressive file;
- fallback: WebP and other classical codecs, of the whole picture and of seeds; reading and writing of files; opening of the
  model, networks included. The rest is what is left of the whole.

"Products at peak" is what the stage's multiply-adds take at the rate of the largest byte convolution alone. The masked
network multiplies numbers of 16 bits, of which a processor takes half as many at a time.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, need, table, write_json
from benchmarks.stage_times import StageTimes, clock, peak_rate, products_per_pixel
from ddpm_codec.codecs import fallback, latents, session
from ddpm_codec.codecs.lossless.archive import ArchiveEncoder
from ddpm_codec.codecs.pixels import coder, kernels
from ddpm_codec.codecs.progressive import decoder as progressive_decoder
from ddpm_codec.codecs.progressive import encoder as progressive_encoder
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.coding import ans
from ddpm_codec.container.source import ByteSource
from ddpm_codec.files import decode_file, decoding, encode_files, encode_progressive_files, inputs, output
from ddpm_codec.isolation import isolated
from ddpm_codec.models import find_model, frozen
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.exact import ends, fused_layer, passes
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import is_masked_network
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.fused_decoder import FusedPixelDecoder
from ddpm_codec.nn.pixel_decoder import masked_macs_per_pixel

DENOISER, TRUNK, PIXELS, CHAIN, FILES = "denoiser", "decoder's trunk", "pixels", "chain", "files"
OPENING, FALLBACK, MESSAGES = "opening of the model", "fallback", "messages"
ALL_AT_ONCE, LOOP = "masked network", "masked network, laws and ANS in one loop"


def watch_all(times: StageTimes, model: frozen.FrozenModel) -> None:
    """Watch everything that has a stage of its own, and count multiply-adds."""
    if model.exact is None or model.decoder is None:
        raise SystemExit(f"{model.name} is not an exact model with a pixel decoder")
    trunk = {name: layer for name, layer in model.decoder.layers.items() if not is_masked_network(name)}
    of_denoiser, of_trunk = products_per_pixel(model.exact.layers), products_per_pixel(trunk)
    of_masked = masked_macs_per_pixel(model.decoder.config)

    def pixels(picture: Any) -> float:  # noqa: ANN401 - an array of whatever dtype, [B, 3, H, W]
        return float(picture.size) / 3

    times.watch(
        FusedExecutor,
        "integers",
        "rest, in Python",
        part=DENOISER,
        count=lambda _, picture, *_rest, **_named: of_denoiser * pixels(picture),
    )
    times.watch(
        FusedPixelDecoder,
        "trunk",
        "rest, in Python",
        part=TRUNK,
        count=lambda _, picture, _level: of_trunk * pixels(picture),
    )
    times.watch(fused_layer, "convolve", "products")
    for module, names in {
        passes: ("pass_on", "read_stream", "fill_border"),
        ends: ("read_picture", "write_mean", "write_pixel_index", "write_coefficient_index", "write_features"),
    }.items():
        for name in names:
            times.watch(module, name, "passes")
    times.watch(kernels, "all_sums", ALL_AT_ONCE, part=PIXELS, count=lambda *found: of_masked * pixels(found[4]))
    times.watch(kernels, "encode_stream", "laws and ANS", part=PIXELS)
    times.watch(kernels, "decode_stream", LOOP, part=PIXELS, count=lambda *found: of_masked * pixels(found[5]))
    _watch_chain(times)
    _watch_files(times)


def _watch_chain(times: StageTimes) -> None:
    for name in ("encode_mean", "forward_mean", "reverse", "prior"):
        times.watch(latents.DiffusionLattice, name, "arithmetic of latents", part=CHAIN)
    times.watch(latents, "noisy_picture", "arithmetic of latents", part=CHAIN)
    for name in ("_plan_lattice", "_plan_sample", "_group", "lattice_table", "sampling_table"):
        times.watch(ans, name, "tables", part=CHAIN)
    for name in ("_push", "_pop", "push_bytes", "pop_bytes", "copy", "to_bytes"):
        times.watch(ans.Stack, name, "ANS", part=CHAIN)
    times.watch(ProgressiveChain, "law", "arithmetic of latents", part=CHAIN)
    times.watch(progressive_encoder, "encode_message", "search of codewords", part=MESSAGES)
    times.watch(progressive_decoder, "decode_message", "codewords", part=MESSAGES)


def _watch_files(times: StageTimes) -> None:
    times.watch(inputs, "check_header", "reading", part=FILES)
    times.watch(inputs, "read_stored", "reading", part=FILES)
    times.watch(ArchiveEncoder, "write", "writing", part=FILES)
    times.watch(decoding, "read_container", "reading", part=FILES)
    times.watch(decoding, "read_sections", "reading", part=FILES)
    times.watch(ByteSource, "read", "reading", part=FILES)
    times.watch(output, "write_picture", "writing", part=FILES)
    for name in ("_encode", "decode_fallback"):
        times.watch(fallback, name, "WebP and others", part=FALLBACK)
    times.watch(session.Model, "__init__", "reading and proof", part=OPENING)
    times.watch(frozen, "make_executor", "networks", part=OPENING)
    times.watch(PixelDecoderExecutor, "__init__", "networks", part=OPENING)
    times.watch(coder, "masked_network", "networks", part=OPENING)


def split(call: Callable[[], object], model: frozen.FrozenModel, repeat: int) -> tuple[StageTimes, float]:
    """Return the stages and the whole of the run that takes the median time."""
    found = []
    for _ in range(repeat):
        with StageTimes() as times:
            watch_all(times, model)
            started = clock()
            call()
            found.append((clock() - started, times))
    whole, times = sorted(found, key=lambda run: run[0])[repeat // 2]
    times.seconds["rest"] = whole - sum(times.seconds.values())
    return times, whole


def at_peak(times: StageTimes, peak: float) -> dict[str, float]:
    """Return the seconds that the products of each stage take at their peak."""
    found = {title: made / peak for title, made in times.counts.items()}
    # Counted where a network starts; made in its convolutions.
    for part in (DENOISER, TRUNK):
        if f"{part}: rest, in Python" in found:
            found[f"{part}: products"] = found.pop(f"{part}: rest, in Python")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", default="kodim13", help="of Kodak, or a picture file")
    parser.add_argument("--progressive", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = Path(options.photo)
    source = need(given if given.suffix else SHARED_DATA / "kodak" / f"{given}.png")
    model = load_model(find_model(options.model))
    found: dict[str, Any] = {"photo": source.stem, "model": model.name, "progressive": options.progressive}
    with isolated(1), tempfile.TemporaryDirectory() as folder:
        coded, back = Path(folder) / "x.ddpm", Path(folder) / "x.png"

        def encode() -> object:
            write = encode_progressive_files if options.progressive else encode_files
            return write([source], coded, model=options.model, overwrite=True)

        def decode() -> object:
            return decode_file(coded, back, model=options.model, overwrite=True)

        encode()
        decode()
        with Image.open(source) as before, Image.open(back) as after:
            if not np.array_equal(np.asarray(before), np.asarray(after)):
                raise SystemExit(f"{source.name}: the pixels did not come back")
        peak = peak_rate("onednn", 20)
        print(f"{source.name}, one worker; products at their peak: {peak / 1e9:.0f} 10^9 multiply-adds/s")
        for name, call in {"encode": encode, "decode": decode}.items():
            times, whole = split(call, model, options.repeat)
            least = at_peak(times, peak)
            rows: list[list[object]] = [
                [title, seconds, f"{100 * seconds / whole:.1f} %", least.get(title, "")]
                for title, seconds in sorted(times.seconds.items(), key=lambda row: -row[1])
            ]
            rows.append(["whole", whole, "100.0 %", sum(least.values())])
            print(table([name, "s", "of the whole", "products at peak, s"], rows), flush=True)
            found[name] = {"whole": whole, "seconds": times.seconds, "at_peak": least, "products": times.counts}
    write_json(found | {"peak": peak}, options.json)


if __name__ == "__main__":
    main()
