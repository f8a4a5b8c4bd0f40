"""A network that marks the ink of writing in a picture: a small U-Net.

Shapes: N pictures, C channels, H rows, W columns.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (16, 32, 64, 64)
# Height and width of the input must be multiples of this.
STRIDE_PX = 2 ** len(CHANNELS)


class InkFinder(nn.Module):
    """Gray pictures -> the logit of each pixel's ink, both (N, 1, H, W).

    Encoder and decoder as in U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with sums for
    concatenations (LinkNet: Chaurasia and Culurciello 2017, arXiv:1707.03718). It starts and ends
    at half the resolution, with four pixels as channels (Shi et al. 2016, arXiv:1609.05158).
    Brightness and contrast of a picture make no difference: it is standardized first.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(CHANNELS))
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(before, after), _convolution(after, after))
            for before, after in [(4, CHANNELS[0]), *pairs]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in pairs)
        self.up = nn.ModuleList(_convolution(channels, channels) for channels in CHANNELS[:-1])
        self.head = nn.Conv2d(CHANNELS[0], 4, 3, padding=1)

    def forward(self, gray_N1HW: Tensor) -> Tensor:
        """Logits of gray pictures in 0..1, H and W multiples of `STRIDE_PX`."""
        mean = gray_N1HW.mean(dim=(2, 3), keepdim=True)
        std = gray_N1HW.std(dim=(2, 3), keepdim=True)
        x_NCHW = F.pixel_unshuffle((gray_N1HW - mean) / (std + 0.02), 2)
        skips = []
        for level, down in enumerate(self.down):
            x_NCHW = down(F.max_pool2d(x_NCHW, 2) if level else x_NCHW)
            skips.append(x_NCHW)
        for up, lateral, skip_NCHW in reversed(
            list(zip(self.up, self.lateral, skips[:-1], strict=True))
        ):
            larger_NCHW = F.interpolate(
                lateral(x_NCHW), scale_factor=2, mode="bilinear", align_corners=False
            )
            x_NCHW = up(skip_NCHW + larger_NCHW)
        return F.pixel_shuffle(self.head(x_NCHW), 2)


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
