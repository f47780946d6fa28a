"""The variational bound of a model on two crops, term by term: an ideal code length, no file is written.

Run it with ``python examples/bound.py [PICTURE]``.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import ddpm_codec

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "shutters_128x128.png"
SIDE = 64

photo = np.asarray(Image.open(sys.argv[1] if len(sys.argv) > 1 else SAMPLE).convert("RGB"))
crops = [photo[:SIDE, :SIDE], photo[-SIDE:, -SIDE:]]
terms = ddpm_codec.bound(crops, model="photo", steps=4)

# z = x_0 + sigma eps with sigma = exp(-log_snr / 2) in model values, where 255 grey levels are 2.
noise = [127.5 * np.exp(-log_snr / 2) for log_snr in terms.chain.log_snr]
print("bits/dim                        crop 1  crop 2")
rows = [(f"L_0, from {noise[0]:.2f} grey levels", terms.reconstruction_bpd)]
rows += [
    (f"step {noise[k + 1]:.2f} -> {noise[k]:.2f}", terms.diffusion_bpd[:, k])
    for k in range(terms.diffusion_bpd.shape[1])
]
rows += [("L_T, the prior", terms.prior_bpd), ("bound", terms.total_bpd)]
for what, values in rows:
    print(f"{what:<30}{values[0]:8.3f}{values[1]:8.3f}")
print(f"mean {terms.mean_bpd:.3f} bits/dim, standard error {terms.stderr_bpd:.3f}")
