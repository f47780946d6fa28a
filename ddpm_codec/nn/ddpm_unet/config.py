"""The architecture of a U-Net in numbers, and the architectures that the papers used."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

from ddpm_codec.errors import ModelError

TimeFeatures = Literal["sinusoidal", "fourier"]
Conditioning = Literal["add", "scale-shift"]
Resample = Literal["conv", "residual"]


@dataclass(frozen=True)
class UNetConfig:
    """Everything that decides the shape and the arithmetic of a :class:`~ddpm_codec.nn.ddpm_unet.network.UNet`.

    Attributes:
        widths: channels of each resolution, the finest first; each is half the side of the one before.
        blocks: residual blocks of each resolution on the way down; one more on the way up.
        attention: indices of the resolutions with self-attention (1 is half the side of the picture).
        middle_attention: whether the coarsest resolution attends between its two middle blocks.
        heads: attention heads; used where ``head_channels`` is 0.
        head_channels: channels of one head; 0: ``heads`` heads.
        groups: of the group normalisations.
        norm_eps: added to their variances.
        dropout: in the residual blocks while training.
        time_features: ``sinusoidal`` (Ho et al.) or ``fourier``: random frequencies, fixed at the start (Song et al. 2021).
        time_channels: number of time features.
        time_scale: what timesteps are multiplied with first: 1000 / T gives the features the same range for any T.
        frequency_shift: the sinusoid frequencies are 10000^(-i / (time_channels / 2 - frequency_shift)).
        cosine_first: order of the time features.
        conditioning: the time embedding is added after the first convolution of a block (``add``, Ho et al.), or scales
            and shifts its second normalisation (``scale-shift``, adaptive group norm of Nichol & Dhariwal).
        resample: ``conv``, or ``residual``: blocks that change the resolution (Dhariwal & Nichol 2021).
        pad_both_sides: whether the strided convolutions pad all four sides; else below and to the right alone.
        learned_range: the network has three more channels that interpolate between beta and beta-tilde.
        channels: of the picture.

    Raises:
        ModelError: naming the first field that does not fit.
    """

    widths: tuple[int, ...] = (128, 256, 256, 256)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    middle_attention: bool = True
    heads: int = 1
    head_channels: int = 0
    groups: int = 32
    norm_eps: float = 1e-6
    dropout: float = 0.0
    time_features: TimeFeatures = "sinusoidal"
    time_channels: int = 128
    time_scale: float = 1.0
    frequency_shift: int = 1
    cosine_first: bool = False
    conditioning: Conditioning = "add"
    resample: Resample = "conv"
    pad_both_sides: bool = False
    learned_range: bool = False
    channels: int = 3

    def __post_init__(self) -> None:
        choices = {"time_features": TimeFeatures, "conditioning": Conditioning, "resample": Resample}
        for key, kind in choices.items():
            if getattr(self, key) not in get_args(kind):
                raise ModelError(f"U-Net: {key} = {getattr(self, key)!r}, use one of {', '.join(get_args(kind))}")
        for key, most in (("blocks", 32), ("groups", 1024), ("heads", 1024), ("channels", 1024)):
            if not 1 <= getattr(self, key) <= most:
                raise ModelError(f"U-Net: {key} = {getattr(self, key)} must lie in 1..{most}")
        if not 0 <= self.head_channels <= 8192:
            raise ModelError(f"U-Net: head_channels = {self.head_channels} must lie in 0..8192")
        if not 0.0 < self.time_scale < 1e6:
            raise ModelError(f"U-Net: time_scale = {self.time_scale} must lie between 0 and a million")
        if not 0.0 < self.norm_eps < 1.0:
            raise ModelError(f"U-Net: norm_eps = {self.norm_eps} must lie between 0 and 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"U-Net: dropout = {self.dropout} must lie in [0, 1)")
        if self.frequency_shift not in (0, 1):
            raise ModelError(f"U-Net: frequency_shift = {self.frequency_shift} must be 0 or 1")
        if len(self.widths) > 8:
            raise ModelError(f"U-Net: {len(self.widths)} widths are too many, 8 halve pictures 7 times")
        if not self.widths or not all(0 < width <= 8192 and width % self.groups == 0 for width in self.widths):
            raise ModelError(f"U-Net: widths {list(self.widths)} must be multiples of groups = {self.groups}")
        if not all(0 <= level < len(self.widths) for level in self.attention):
            raise ModelError(f"U-Net: attention {list(self.attention)} names resolutions that widths has not")
        if self.time_channels < 4 or self.time_channels % 2 or self.time_channels > 8192:
            raise ModelError(f"U-Net: time_channels = {self.time_channels} must be even and at least 4")
        attending = {self.widths[level] for level in self.attention} | ({self.widths[-1]} & {self.middle_width})
        for width in attending:
            if width % (self.head_channels or self.heads):
                raise ModelError(f"U-Net: a width of {width} does not divide into its attention heads")

    @property
    def middle_width(self) -> int:
        """Channels of the middle where it attends, else 0."""
        return self.widths[-1] if self.middle_attention else 0

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return 2 * self.channels if self.learned_range else self.channels

    @property
    def stride(self) -> int:
        """Sides of pictures must be multiples of this."""
        return int(2 ** (len(self.widths) - 1))

    def heads_of(self, width: int) -> int:
        """Return the number of attention heads at that width."""
        return width // self.head_channels if self.head_channels else self.heads

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self) | {"widths": list(self.widths), "attention": list(self.attention)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values, checking names and kinds.

        Raises:
            ModelError: a field is unknown or of the wrong kind.
        """
        kinds = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if key not in kinds:
                raise ModelError(f"U-Net: unknown field {key!r}")
            given = tuple(value) if isinstance(value, list) else float(value) if _whole(value, kinds[key]) else value
            if type(given) is not kinds[key] or (isinstance(given, tuple) and any(type(n) is not int for n in given)):
                raise ModelError(f"U-Net: {key} = {value!r}, expected {kinds[key].__name__}")
            checked[key] = given
        return cls(**checked)


def _whole(value: object, kind: type) -> bool:
    return kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


_HO_CIFAR10 = UNetConfig()
_NICHOL_CIFAR10 = UNetConfig(
    widths=(128, 256, 256, 256),
    blocks=3,
    attention=(1, 2),
    heads=4,
    norm_eps=1e-5,
    time_channels=128,
    frequency_shift=0,
    cosine_first=True,
    conditioning="scale-shift",
    pad_both_sides=True,
    learned_range=True,
)

UNETS: dict[str, UNetConfig] = {
    # Ho et al. 2020, appendix B: 35.7 and 114 million parameters, attention at 16x16.
    "ddpm-cifar10": _HO_CIFAR10,
    "ddpm-256": UNetConfig(widths=(128, 128, 256, 256, 512, 512), attention=(4,)),
    # Nichol & Dhariwal 2021, appendix A.
    "iddpm-cifar10": _NICHOL_CIFAR10,
    "iddpm-imagenet64": replace(_NICHOL_CIFAR10, widths=(128, 256, 384, 512), attention=(2, 3)),
    # For a CPU, and for tests.
    "ddpm-small": UNetConfig(widths=(32, 64, 128, 128), blocks=1, groups=16, time_channels=64),
    "ddpm-tiny": UNetConfig(widths=(16, 32), blocks=1, groups=8, time_channels=16),
}
"""Architectures by name, as ``train --size`` takes them."""
