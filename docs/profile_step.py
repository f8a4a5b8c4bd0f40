"""Profile training steps: the share of the time that each PyTorch operation takes.

$ python docs/profile_step.py cnn-small
$ python docs/profile_step.py sprint --precision float32

Trains a recipe on random images and one thread: an epoch of 50 steps to warm up, then one that is
profiled. An operation's time excludes the operations it calls.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from mnistcli.config.resolve import resolve_settings
from mnistcli.data.examples import Examples
from mnistcli.training.engine import StepProgress, fit
from mnistcli.training.trainer import make_plan

NUM_STEPS, NUM_ROWS = 50, 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    flags = {"recipe": options.recipe, "precision": options.precision, "device": "cpu", "epochs": 9}
    plan = make_plan(resolve_settings(flags, environ={}).settings)
    num_images = NUM_STEPS * plan.settings.batch_size
    images_NHW = torch.randint(256, (num_images, 28, 28), dtype=torch.uint8)
    train = Examples(images_NHW, torch.randint(10, (num_images,)))
    val = train.take(torch.arange(0))
    state = plan.build_state(num_images)
    profiler = profile(activities=[ProfilerActivity.CPU])

    def stop(step: StepProgress) -> None:
        # Before batch norm's statistics are recomputed, which is no part of a step.
        if state.num_epochs_done == 1 and step.number == step.num_steps:
            profiler.stop()

    epochs = fit(state, train, val, plan.normalization, on_step=stop)
    next(epochs)
    profiler.start()
    epoch = next(epochs)
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"{options.recipe} in {plan.precision.value}: {epoch.images_per_second:,.0f} images/s")
    for row in rows[:NUM_ROWS]:
        share = row.self_cpu_time_total / total
        print(f"{share:6.1%}  {row.key} ({row.count // NUM_STEPS} per step)")
    rest = sum(row.self_cpu_time_total for row in rows[NUM_ROWS:]) / total
    print(f"{rest:6.1%}  {len(rows) - NUM_ROWS} others")


if __name__ == "__main__":
    main()
