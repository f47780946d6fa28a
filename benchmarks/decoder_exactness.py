"""Question: what does a pixel decoder lose in bits/dim by being exact?

Run: ddpm-codec export models/photo_decoder.pt -o float.safetensors --float
     python -m benchmarks.decoder_exactness --model photo --float float.safetensors [--plain PLAIN]
         [--data photos_val] [--limit N] [--json FILE]

L_0 at the crossing of the shipped model's default chain, same pictures and same noise, for: the decoder in float32 before it
was trained with rounding (--float); a model whose decoder was rounded without further training (--plain, a file of
`ddpm-codec export --decoder models/photo_decoder.pt`); the model that ships. The pictures are some that no network was
trained on: Kodak, photos_val or the CIFAR-10 test set. Standard errors are of the differences, over pictures.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.models import find_model
from ddpm_codec.models.model_file import load_model
from ddpm_codec.models.registry import model_id

SETS = {"kodak": ("kodak", ""), "photos_val": ("photos_val.zip", ""), "cifar10_test": ("cifar10_test.zip", "32x32")}
"""File and, of sheets, the size of a cell."""

TESTED = {"photo": "kodak", "cifar10": "cifar10_test"}
"""The set of each model."""


def data_of(name: str) -> str:
    """Return DATA of a set by its name."""
    file, cell = SETS[name]
    path = need(SHARED_DATA / file)
    return f"sheet:{path}:{cell}" if cell else str(path)


def last_message(model: str, data: str, **settings: Any) -> NDArray[np.float64]:  # noqa: ANN401 - settings of evaluate_bpd
    """Return L_0 of each picture in bits/dim."""
    return np.asarray(evaluate_bpd(data, model=model, steps=1, **settings).reconstruction_bpd)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo", choices=sorted(TESTED))
    parser.add_argument(
        "--data", choices=sorted(SETS), help="default: Kodak for photo, the CIFAR-10 test set for cifar10"
    )
    parser.add_argument("--float", dest="floating", required=True, help="file of a pixel decoder in floating point")
    parser.add_argument("--plain", help="file of a model whose decoder was rounded without further training")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    file = find_model(options.model)
    frozen = load_model(file)
    crossing = frozen.crossings[frozen.default_crossing]
    name = options.data or TESTED[options.model]
    data = data_of(name)
    settings: dict[str, Any] = {"limit": options.limit, "crossing": crossing}
    found = {"float32": last_message(options.model, data, decoder=options.floating, **settings)}
    if options.plain:
        found["exact, not trained further"] = last_message(options.plain, data, **settings)
    found["exact, shipped"] = last_message(options.model, data, **settings)
    rows = []
    for variant, values in found.items():
        loss = values - found["float32"]
        rows.append([variant, values.mean(), loss.mean(), loss.std(ddof=1) / len(loss) ** 0.5])
    print(f"{options.model} {model_id(file)[:12]}, crossing at {crossing} grey levels, {len(loss)} pictures of {name}")
    print(table(["pixel decoder", "L_0, bits/dim", "above float32", "standard error"], rows))
    write_json(
        {"model": options.model, "id": model_id(file), "data": name, "crossing": crossing, "rows": rows}, options.json
    )


if __name__ == "__main__":
    main()
