"""Pictures made worse in known ways, to see how soon a network fails.

The idea is MNIST-C's (Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer
Vision", 2019, arXiv 1906.02337); the corruptions and their amounts are our own.

Shapes: N images, C channels (1), H rows, W columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.data.augment import warp_affine
from mnistcli.errors import unknown_name

CORRUPTION_SEED = 0
# Fixed: what is drawn at random depends on it.
CORRUPTION_BATCH_SIZE = 1000
# Strokes are thinned and thickened on pictures enlarged by this factor, in steps of half a pixel.
UPSCALING = 4

# What it does to uint8 pictures (N, H, W), how much, and what it draws by. Gives float32.
CorruptFunction = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to make pictures worse, by three amounts, the mildest first.

    `text` is an amount in words, with {} for its number.
    """

    name: str
    text: str
    amounts: tuple[float, float, float]
    apply: CorruptFunction

    def describe(self, amount: float) -> str:
        """An amount in words: "10 degrees"."""
        return self.text.format(f"{amount:g}")


def parse_corruptions(names: str) -> tuple[Corruption, ...]:
    """The corruptions in a list with commas; "all" means all of them.

    Raises:
        SettingsError: there is no corruption of that name.
    """
    found: dict[str, Corruption] = {}
    for name in (each.strip() for each in names.split(",")):
        if name != "all" and name not in CORRUPTIONS:
            raise unknown_name("corruption", name, [*CORRUPTIONS, "all"])
        found |= CORRUPTIONS if name == "all" else {name: CORRUPTIONS[name]}
    return tuple(found.values())


def corrupt(images_NHW: Tensor, corruption: Corruption, amount: float) -> Tensor:
    """Every uint8 picture (N, H, W) made worse, as uint8. All of them lie on the CPU.

    What is random comes from a generator of its own, always with the same seed:
    the same pictures come out every time, whatever device then reads them.
    """
    generator = torch.Generator().manual_seed(CORRUPTION_SEED)
    parts = [
        corruption.apply(part_NHW, amount, generator)
        for part_NHW in images_NHW.split(CORRUPTION_BATCH_SIZE)
    ]
    return torch.cat(parts).round().clamp(0, 255).to(torch.uint8)


def _rotate(images_NHW: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    angle_N = math.radians(degrees) * _random_signs(images_NHW, generator)
    cos_N, sin_N, none_N = angle_N.cos(), angle_N.sin(), torch.zeros_like(angle_N)
    return warp_affine(images_NHW, _affine_maps((cos_N, -sin_N, none_N), (sin_N, cos_N, none_N)))


def _shift(images_NHW: Tensor, shift_px: float, generator: torch.Generator) -> Tensor:
    # A whole picture is 2 wide for `warp`.
    across_N, down_N = (
        2 * shift_px / images_NHW.shape[-1] * _random_signs(images_NHW, generator) for _ in range(2)
    )
    one_N, none_N = torch.ones_like(across_N), torch.zeros_like(across_N)
    return warp_affine(images_NHW, _affine_maps((one_N, none_N, across_N), (none_N, one_N, down_N)))


def _shrink(images_NHW: Tensor, percent: float, _: torch.Generator) -> Tensor:
    scale_N = torch.full((len(images_NHW),), 100 / percent)
    none_N = torch.zeros_like(scale_N)
    return warp_affine(
        images_NHW, _affine_maps((scale_N, none_N, none_N), (none_N, scale_N, none_N))
    )


def _shear(images_NHW: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    slope_N = math.tan(math.radians(degrees)) * _random_signs(images_NHW, generator)
    one_N, none_N = torch.ones_like(slope_N), torch.zeros_like(slope_N)
    return warp_affine(images_NHW, _affine_maps((one_N, slope_N, none_N), (none_N, one_N, none_N)))


def _blur(images_NHW: Tensor, sd_px: float, _: torch.Generator) -> Tensor:
    reach = math.ceil(3 * sd_px)
    places_K = torch.arange(-reach, reach + 1)
    weights_K = torch.exp(-((places_K / sd_px) ** 2) / 2)
    kernel_K = weights_K / weights_K.sum()
    x_NCHW = images_NHW.unsqueeze(1).float()
    x_NCHW = F.conv2d(x_NCHW, kernel_K.reshape(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(x_NCHW, kernel_K.reshape(1, 1, -1, 1), padding=(reach, 0)).squeeze(1)


def _add_noise(images_NHW: Tensor, sd_percent: float, generator: torch.Generator) -> Tensor:
    return images_NHW + 255 * sd_percent / 100 * torch.randn(images_NHW.shape, generator=generator)


def _thin(images_NHW: Tensor, by_px: float, generator: torch.Generator) -> Tensor:
    return 255 - _thicken(255 - images_NHW, by_px, generator)


def _thicken(images_NHW: Tensor, by_px: float, _: torch.Generator) -> Tensor:
    """Every pixel's highest value in a square around it, `by_px` larger than itself."""
    reach = round(UPSCALING * by_px / 2)
    x_NCHW = F.interpolate(images_NHW.unsqueeze(1).float(), scale_factor=UPSCALING, mode="bilinear")
    for kernel, padding in (((1, 2 * reach + 1), (0, reach)), ((2 * reach + 1, 1), (reach, 0))):
        x_NCHW = F.max_pool2d(x_NCHW, kernel, stride=1, padding=padding)
    return F.avg_pool2d(x_NCHW, UPSCALING).squeeze(1)


def _random_signs(images_NHW: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 for every picture, float32 (N,)."""
    return 2.0 * torch.randint(2, (len(images_NHW),), generator=generator) - 1


def _affine_maps(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Affine maps (N, 2, 3) as `warp` takes them, from their rows."""
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


CORRUPTIONS = {
    each.name: each
    for each in (
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
