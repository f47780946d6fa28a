"""A DDPM on a GPU: the same bound as on a CPU, to float tolerance."""

import numpy as np
import pytest
import torch

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.models.ddpm_model import DdpmModel
from tests.ddpm_folders import random_ddpm


@pytest.mark.gpu
def test_the_bound_is_that_of_the_cpu() -> None:
    model = DdpmModel(random_ddpm(variance="learned-range"))
    setting = model.bound_setting(None, "even", "predicted")
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16))).float() / 127.5 - 1.0
    found = [
        evaluate_bound(
            model.bound_denoiser(torch.device(device), "float32"),
            [pictures.to(device)],
            setting.transform,
            setting.chain,
            setting.prior,
            variance=setting.variances,
        ).total_bpd
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)
