"""The U-Net of Ho et al. 2020 and of Nichol & Dhariwal 2021, for models as the papers define them."""

from ddpm_codec.nn.ddpm_unet.config import UNetConfig
from ddpm_codec.nn.ddpm_unet.network import UNet, weight_shapes

__all__ = ["UNet", "UNetConfig", "weight_shapes"]
