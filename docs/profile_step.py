"""Where the time of training goes, operation by operation, on one thread.

$ python docs/profile_step.py cnn-small
$ python docs/profile_step.py sprint --precision float32

Trains a recipe on random pictures, warms up, and prints the share of the time of 50 steps that
each of PyTorch's operations takes by itself, those of the same kind together.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from mnistcli.config.resolve import resolve_settings
from mnistcli.data.examples import Examples
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import make_plan

NUM_STEPS, NUM_SHOWN = 50, 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()
    torch.set_num_threads(1)
    flags = {"recipe": given.recipe, "precision": given.precision, "device": "cpu", "epochs": 9}
    plan = make_plan(resolve_settings(flags, environ={}).settings)
    num = NUM_STEPS * plan.settings.batch_size
    generator = torch.Generator().manual_seed(0)
    images_NHW = torch.randint(256, (num, 28, 28), generator=generator, dtype=torch.uint8)
    examples = Examples(images_NHW, torch.randint(10, (num,), generator=generator))
    state = TrainState(
        plan.settings, num_examples=num, device="cpu", precision=plan.precision.value
    )
    none = Examples(images_NHW[:0], examples.labels_N[:0])
    epochs = fit(state, examples, none, plan.normalization)
    next(epochs)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        epoch = next(epochs)
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"{given.recipe} in {plan.precision.value}: {epoch.images_per_second:,.0f} images/s")
    for row in rows[:NUM_SHOWN]:
        print(
            f"{row.self_cpu_time_total / total:6.1%}  {row.key} ({row.count // NUM_STEPS} a step)"
        )
    rest = sum(row.self_cpu_time_total for row in rows[NUM_SHOWN:]) / total
    print(f"{rest:6.1%}  {len(rows) - NUM_SHOWN} others")


if __name__ == "__main__":
    main()
