"""How long an epoch will take on this machine, from a few training steps that are discarded."""

from dataclasses import replace

import torch
from torch import Tensor

from mnistcli.data.batches import evaluation_batch_size, steps_per_epoch
from mnistcli.data.examples import Examples
from mnistcli.errors import RunError
from mnistcli.training.engine import fit, num_recomputing_batches
from mnistcli.training.trainer import TrainingPlan, translate_out_of_memory

# Epochs of one step each. The first is a warm-up: it loads and selects kernels.
_NUM_WARM_UP, _NUM_TIMED = 1, 2
# A shorter training is not worth the trial.
_MIN_STEPS = 30


def estimate_epoch_seconds(plan: TrainingPlan, train: Examples, val: Examples) -> float | None:
    """The wall time of an epoch with its validation; None for a training of a few steps.

    Also None if the loss is not finite at once. Trains another network of the plan for three
    steps, which reseeds PyTorch's global random generator, as building a `TrainState` does.

    Raises:
        RunError: there is not enough memory.
    """
    batch_size = plan.settings.batch_size
    num_steps = steps_per_epoch(len(train), batch_size)
    if num_steps * plan.settings.epochs < _MIN_STEPS:
        return None
    sample = train.take(_first(batch_size, train))
    val_sample = val.take(_first(evaluation_batch_size(val.labels_N.device), val))
    changes = {"epochs": _NUM_WARM_UP + _NUM_TIMED}
    with translate_out_of_memory(plan):
        state = replace(plan, settings=plan.settings.model_copy(update=changes)).build_state(
            len(sample)
        )
        try:
            epochs = list(fit(state, sample, val_sample, plan.normalization))[_NUM_WARM_UP:]
        except RunError:
            return None
    step_seconds = min(len(sample) / epoch.images_per_second for epoch in epochs)
    # Validation and recomputing batch norm's statistics: forward passes over images.
    forward_seconds = min(epoch.seconds for epoch in epochs) - step_seconds
    num_tried = len(val_sample) + _num_recomputing_images(plan, sample)
    num_images = len(val) + _num_recomputing_images(plan, train)
    return num_steps * step_seconds + num_images / max(1, num_tried) * forward_seconds


def _num_recomputing_images(plan: TrainingPlan, train: Examples) -> int:
    num_batches = num_recomputing_batches(plan.settings, len(train))
    return num_batches * min(plan.settings.batch_size, len(train))


def _first(num: int, examples: Examples) -> Tensor:
    return torch.arange(min(num, len(examples)), device=examples.labels_N.device)
