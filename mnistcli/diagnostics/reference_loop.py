"""The reference loop: the training loop of most MNIST scripts, to compare the engine with.

torchvision's data set with ToTensor and Normalize, a shuffling DataLoader,
PyTorch's default optimizer, the loss read after every batch.

Shapes: N images, C channels (1), H rows, W columns, K classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnistcli.config.settings import TrainSettings
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization
from mnistcli.models.registry import build_network
from mnistcli.training.device import DTYPES
from mnistcli.training.optim import OPTIMIZERS


class InMemoryMNIST(MNIST):  # type: ignore[misc]
    """torchvision's data set, filled with examples instead of a directory's files.

    The slow part, a PIL image and the transforms for every image, is torchvision's own code.
    """

    def __init__(self, examples: Examples, normalization: Normalization) -> None:
        # Without the parent's __init__, which looks for files.
        self.data, self.targets = examples.images_NHW, examples.labels_N
        side = normalization.input_px
        resize = [] if self.data.shape[-1] == side else [transforms.Resize((side, side))]
        normalize = transforms.Normalize((normalization.mean,), (normalization.std,))
        self.transform = transforms.Compose([*resize, transforms.ToTensor(), normalize])
        self.target_transform = None


class ReferenceLoop:
    """The network and the optimizer of the settings, without augmentation and EMA."""

    def __init__(self, settings: TrainSettings, *, device: str, precision: str) -> None:
        torch.manual_seed(settings.seed)
        self.device = device
        self.dtype = DTYPES[precision]
        self.model = build_network(settings.arch, settings.network).to(device)
        options = {"weight_decay": settings.weight_decay}
        if settings.optimizer == "sgd":
            options["momentum"] = settings.momentum
        optimizer_class: Any = OPTIMIZERS[settings.optimizer].torch_class
        self.optimizer = optimizer_class(self.model.parameters(), lr=settings.lr, **options)
        # Float16's gradients vanish unless the loss is scaled.
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")

    def train(self, loader: "DataLoader[tuple[Tensor, Tensor]]") -> float:
        """Train an epoch on batches of images (N, 1, H, W) and labels; the mean loss in nats."""
        self.model.train()
        loss_sum, num_seen = 0.0, 0
        for batch_NCHW, batch_N in loader:
            x_NCHW, labels_N = batch_NCHW.to(self.device), batch_N.to(self.device)
            self.optimizer.zero_grad()
            with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
                loss = F.cross_entropy(self.model(x_NCHW), labels_N)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            loss_sum += loss.item() * len(labels_N)
            num_seen += len(labels_N)
        return loss_sum / num_seen


def make_loader(
    examples: Examples, normalization: Normalization, *, batch_size: int, num_processes: int
) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Shuffled batches of examples on the CPU; with 0 processes, this one decodes them."""
    return DataLoader(
        InMemoryMNIST(examples, normalization),
        batch_size,
        shuffle=True,
        num_workers=num_processes,
        persistent_workers=num_processes > 0,
    )
