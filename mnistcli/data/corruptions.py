"""Corrupted images, to measure how robust a network is.

The idea is MNIST-C's (Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer
Vision", 2019, arXiv 1906.02337); the corruptions and their amounts are our own.
To add one, add its name to `CorruptionName` in `config/choices.py` and its entry to
`CORRUPTIONS` below.

Shapes: N images, C channels (1), H rows, W columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.choices import CorruptionName
from mnistcli.data.augment import warp_affine
from mnistcli.errors import require_known

CORRUPTION_SEED = 0
# Fixed, because the random numbers depend on it.
CORRUPTION_BATCH_SIZE = 1000
# Strokes are thinned and thickened on images enlarged by this factor, in steps of half a pixel.
UPSCALING = 4

# Corrupts uint8 images (N, H, W) by an amount, with random numbers of a generator, to float32.
CorruptFunction = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt images, with three amounts, the mildest first.

    `text` describes an amount, with {} for its number.
    """

    name: CorruptionName
    text: str
    amounts: tuple[float, float, float]
    apply: CorruptFunction

    def describe(self, amount: float) -> str:
        """Describe an amount: "10 degrees, either way"."""
        return self.text.format(f"{amount:g}")


def parse_corruptions(names: str) -> tuple[Corruption, ...]:
    """The corruptions in a list with commas or spaces; "all" means all of them.

    Raises:
        SettingsError: there is no corruption of that name.
    """
    corruptions: dict[str, Corruption] = {}
    for typed in names.replace(",", " ").split() or [""]:
        name = require_known("corruption", typed, [*CORRUPTIONS, "all"])
        corruptions |= CORRUPTIONS if name == "all" else {name: CORRUPTIONS[name]}
    return tuple(corruptions.values())


def corrupt(images_NHW: Tensor, corruption: Corruption, amount: float) -> Tensor:
    """Corrupt every uint8 image (N, H, W) on the CPU; the result is uint8.

    The generator always has the same seed: the same images come out every time,
    whatever device evaluates them.
    """
    generator = torch.Generator().manual_seed(CORRUPTION_SEED)
    parts = [
        corruption.apply(part_NHW, amount, generator)
        for part_NHW in images_NHW.split(CORRUPTION_BATCH_SIZE)
    ]
    return torch.cat(parts).round().clamp(0, 255).to(torch.uint8)


def _rotate(images_NHW: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    angle_N = math.radians(degrees) * _random_signs(images_NHW, generator)
    cos_N, sin_N, zero_N = angle_N.cos(), angle_N.sin(), torch.zeros_like(angle_N)
    return warp_affine(images_NHW, _affine_maps((cos_N, -sin_N, zero_N), (sin_N, cos_N, zero_N)))


def _shift(images_NHW: Tensor, shift_px: float, generator: torch.Generator) -> Tensor:
    # An image is 2 wide in the coordinates of `warp_affine`.
    across_N, down_N = (
        2 * shift_px / images_NHW.shape[-1] * _random_signs(images_NHW, generator) for _ in range(2)
    )
    one_N, zero_N = torch.ones_like(across_N), torch.zeros_like(across_N)
    return warp_affine(images_NHW, _affine_maps((one_N, zero_N, across_N), (zero_N, one_N, down_N)))


def _shrink(images_NHW: Tensor, percent: float, _: torch.Generator) -> Tensor:
    scale_N = torch.full((len(images_NHW),), 100 / percent)
    zero_N = torch.zeros_like(scale_N)
    return warp_affine(
        images_NHW, _affine_maps((scale_N, zero_N, zero_N), (zero_N, scale_N, zero_N))
    )


def _shear(images_NHW: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    slope_N = math.tan(math.radians(degrees)) * _random_signs(images_NHW, generator)
    one_N, zero_N = torch.ones_like(slope_N), torch.zeros_like(slope_N)
    return warp_affine(images_NHW, _affine_maps((one_N, slope_N, zero_N), (zero_N, one_N, zero_N)))


def _blur(images_NHW: Tensor, sd_px: float, _: torch.Generator) -> Tensor:
    reach = math.ceil(3 * sd_px)
    offsets_K = torch.arange(-reach, reach + 1)
    weights_K = torch.exp(-((offsets_K / sd_px) ** 2) / 2)
    kernel_K = weights_K / weights_K.sum()
    x_NCHW = images_NHW.unsqueeze(1).float()
    x_NCHW = F.conv2d(x_NCHW, kernel_K.reshape(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(x_NCHW, kernel_K.reshape(1, 1, -1, 1), padding=(reach, 0)).squeeze(1)


def _add_noise(images_NHW: Tensor, sd_percent: float, generator: torch.Generator) -> Tensor:
    return images_NHW + 255 * sd_percent / 100 * torch.randn(images_NHW.shape, generator=generator)


def _thin(images_NHW: Tensor, by_px: float, generator: torch.Generator) -> Tensor:
    return 255 - _thicken(255 - images_NHW, by_px, generator)


def _thicken(images_NHW: Tensor, by_px: float, _: torch.Generator) -> Tensor:
    """Give every pixel the highest value in a square around it, `by_px` larger than a pixel."""
    reach = round(UPSCALING * by_px / 2)
    x_NCHW = F.interpolate(images_NHW.unsqueeze(1).float(), scale_factor=UPSCALING, mode="bilinear")
    for kernel, padding in (((1, 2 * reach + 1), (0, reach)), ((2 * reach + 1, 1), (reach, 0))):
        x_NCHW = F.max_pool2d(x_NCHW, kernel, stride=1, padding=padding)
    return F.avg_pool2d(x_NCHW, UPSCALING).squeeze(1)


def _random_signs(images_NHW: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 for every image, float32 (N,)."""
    return 2.0 * torch.randint(2, (len(images_NHW),), generator=generator) - 1


def _affine_maps(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Affine maps (N, 2, 3) for `warp_affine`, from their rows."""
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption("rotate", "{} degrees, either way", (10, 20, 30), _rotate),
        Corruption("shift", "{} px across and down", (2, 3, 4), _shift),
        Corruption("scale", "to {} % of its size", (85, 70, 55), _shrink),
        Corruption("shear", "{} degrees, either way", (10, 20, 30), _shear),
        Corruption("blur", "SD {} px", (0.75, 1.25, 1.75), _blur),
        Corruption("noise", "SD {} % of full ink", (5, 10, 20), _add_noise),
        Corruption("thin", "strokes {} px thinner", (0.5, 1, 1.5), _thin),
        Corruption("thick", "strokes {} px thicker", (0.5, 1, 1.5), _thicken),
    )
}
