"""Examples made up for tests."""

import torch

from mnistcli.data.examples import Examples


def numbered(num: int) -> Examples:
    """Examples whose label is their index, repeated in their image."""
    numbers_N = torch.arange(num)
    images_NHW = numbers_N.to(torch.uint8).reshape(num, 1, 1).expand(num, 2, 2)
    return Examples(images_NHW, numbers_N)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def center_of_mass(images_NHW: torch.Tensor) -> torch.Tensor:
    """Row and column, (N, 2), in px."""
    positions = torch.arange(images_NHW.shape[-1], dtype=torch.float32)
    x_NHW = images_NHW.float()
    rows_N = (x_NHW.sum(dim=2) * positions).sum(dim=1)
    columns_N = (x_NHW.sum(dim=1) * positions).sum(dim=1)
    return torch.stack([rows_N, columns_N], dim=1) / x_NHW.sum(dim=(1, 2))[:, None]


def blobs(num: int) -> torch.Tensor:
    """Soft round spots of ink, uint8 (num, 28, 28), slightly off the center."""
    positions = torch.arange(28.0)
    bump = torch.exp(-((positions - 12.5) ** 2) / 18)
    return (bump[:, None] * bump * 255).to(torch.uint8).repeat(num, 1, 1)
