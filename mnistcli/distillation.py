"""Distillation: a network learns what trained networks answer, beside the labels.

After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
(arXiv 1503.02531). Every picture is shown to the teachers as the learner sees it,
turned and shifted alike.

Shapes: N images, H rows, W columns, K classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli import checkpoints
from mnistcli.batches import normalise
from mnistcli.errors import SettingsError
from mnistcli.settings import TrainSettings


@dataclass(frozen=True)
class Teacher:
    """Trained networks whose averaged probabilities are taught, and the digest of their weights."""

    models: tuple[checkpoints.LoadedModel, ...]
    digest: str

    def to(self, device: torch.device) -> "Teacher":
        """The same networks, moved to `device`."""
        for model in self.models:
            model.network.to(device)
        return self

    def may_know(self, settings: TrainSettings) -> bool:
        """Whether any may have been trained on images that a run of `settings` validates on.

        That is so of the same data set, unless it was divided alike and had no
        teacher itself: how that one was trained is not known.
        """
        if not settings.holds_out:
            return False
        taught = [model.card.settings for model in self.models]
        same = [each for each in taught if each.dataset == settings.dataset]
        return any(each.teacher or each.division != settings.division for each in same)

    @torch.no_grad()
    def probabilities(self, images_NHW: Tensor, temperature: float) -> Tensor:
        """The mean of the softened probabilities, float32 (N, K), of pictures in 0..255."""
        each_NK = [
            F.softmax(
                model.network(normalise(images_NHW, model.normalisation)).float() / temperature,
                dim=1,
            )
            for model in self.models
        ]
        return torch.stack(each_NK).mean(dim=0)


def load(names: Sequence[str], classes: tuple[str, ...]) -> Teacher | None:
    """The networks in the checkpoint files `names`; None where there are none.

    Raises:
        DataError: a file is missing, damaged, or no checkpoint.
        SettingsError: a teacher tells other classes apart.
    """
    if not names:
        return None
    models = tuple(checkpoints.load_model(Path(name)) for name in names)
    for model in models:
        if model.card.classes != classes:
            raise SettingsError(
                f"{model.path} cannot teach here.",
                why=f"It was trained on {model.card.settings.dataset}, whose classes are others.",
                fix="Name a checkpoint that was trained on the same data set.",
            )
    digest = hashlib.sha256()
    for model in models:
        for tensor in model.network.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return Teacher(models, digest.hexdigest())


def loss(logits_NK: Tensor, taught_NK: Tensor, temperature: float) -> Tensor:
    """How far softened logits are from what is taught: a mean Kullback-Leibler divergence, nats.

    Times the temperature squared, which keeps the gradients' size whatever the temperature.
    """
    log_probabilities_NK = F.log_softmax(logits_NK / temperature, dim=1)
    return temperature**2 * F.kl_div(log_probabilities_NK, taught_NK, reduction="batchmean")
