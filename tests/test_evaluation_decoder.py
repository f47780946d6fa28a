"""The bound of a model with its own pixel decoder: exact frequencies, its crossings, and pixels without padding."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_codec.coding.pixel_laws import frequency, pixel_laws
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.measurement import draw_noise, image_generators
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import InputError
from ddpm_codec.evaluation import bound_of
from tests.golden.regenerate import noisy_picture
from tests.helpers import Run
from tests.toy_exact import toy_exact, write_toy_exact

CPU = torch.device("cpu")


def test_the_last_message_is_what_the_coder_spends() -> None:
    """L_0 again from frequencies of grey levels, for a picture whose sides no network takes."""
    model, picture = toy_exact(), noisy_picture(0, 13, 18)
    report = bound_of([picture], model, crossing=8.2, steps=3, seed=4)
    padded = np.pad(picture, ((0, 3), (0, 6), (0, 0)), mode="edge").transpose(2, 0, 1)[None]
    x_0 = to_model_values(padded, CPU)
    sigma = math.exp(-0.5 * log_snr_at(8.2))
    z_0 = x_0 + sigma * draw_noise(x_0, image_generators(4, 0, 1))
    z_64 = torch.round(z_0.double() * 127.5 * 64.0).to(torch.int64).numpy()
    executor = model.pixel_decoder_executor(CPU)
    assert executor is not None
    assert model.decoder is not None
    mean, features = executor.trunk(z_64, 1)
    greys = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])
    v = executor.sums(mean, features, greys, 1)
    own = np.moveaxis(mean[..., :13, :18], 1, -1)
    laws = pixel_laws(v, own, picture[None], model.decoder.law_heads(1))
    counts = frequency(picture[None].astype(np.int64), laws, model.decoder.tails, model.decoder.inverse_scales)
    bits = -np.log2(counts / 2.0**24).sum()
    assert report.reconstruction_bpd[0] == pytest.approx(bits / picture.size, rel=1e-9)
    assert report.dims.tolist() == [picture.size]
    error = own[0] / 1024.0 + 127.5 - picture
    assert report.mean_rmse[0] == pytest.approx(math.sqrt(float(np.square(error).mean())), rel=1e-6)


def test_figures_do_not_depend_on_batches_or_other_shapes() -> None:
    """Pictures that are padded to the same size, but coded as they are, do not wait for each other."""
    pictures = [noisy_picture(0, 16, 16), noisy_picture(1, 15, 16), noisy_picture(2, 16, 16), noisy_picture(3, 15, 16)]
    together, apart = (bound_of(pictures, toy_exact(), batch=batch) for batch in (64, 1))
    np.testing.assert_allclose(together.total_bpd, apart.total_bpd, rtol=1e-12)
    alone = bound_of(pictures[1::2], toy_exact(), places=[1, 3])
    np.testing.assert_allclose(alone.total_bpd, together.total_bpd[1::2], rtol=1e-12)


def test_crossings_and_steps() -> None:
    pictures = [noisy_picture(index, 32, 32) for index in range(2)]
    default, higher = bound_of(pictures, toy_exact()), bound_of(pictures, toy_exact(), crossing=8.2, steps=1)
    assert (default.facts["crossing"], default.facts["steps"], default.facts["evaluations"]) == (3.2, 2, 2)
    assert (higher.facts["crossing"], higher.facts["steps"], higher.facts["decoder_dtype"]) == (8.2, 1, "exact")
    assert higher.chain.log_snr[0] == pytest.approx(log_snr_at(8.2), rel=1e-12)
    assert higher.reconstruction_bpd.mean() > default.reconstruction_bpd.mean()
    np.testing.assert_allclose(
        higher.total_bpd, higher.prior_bpd + higher.diffusion_bpd.sum(axis=1) + higher.reconstruction_bpd, rtol=1e-12
    )
    with pytest.raises(InputError, match=r"\Acrossing 5: model toy-exact was trained at 3.2, 8.2 grey levels\Z"):
        bound_of(pictures, toy_exact(), crossing=5.0)


def test_on_the_command_line(run: Run, tmp_path: Path) -> None:
    model = write_toy_exact(tmp_path)
    np.save(tmp_path / "noise.npy", np.stack([noisy_picture(index, 16, 16) for index in range(2)]))
    code, out, err = run("bpd", tmp_path / "noise.npy", "--model", model, "--crossing", 8.2, "--steps", 2)
    assert (code, err) == (0, "")
    assert "8.2" in out
    assert "L_0" in out
    code, out, err = run("bpd", tmp_path / "noise.npy", "--model", model, "--crossing", 5)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "was trained at 3.2, 8.2 grey levels" in err
