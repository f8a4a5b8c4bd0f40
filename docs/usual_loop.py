"""One epoch of the engine against the usual loop, for the same network, batch and precision.

$ python docs/usual_loop.py --recipe cnn-dropout --data-dir DIR --repeats 3

The usual loop is the one of most MNIST scripts: torchvision's data set with ToTensor and
Normalize, a DataLoader that shuffles, zero_grad, forward, loss, backward, step, the loss and the
number right read after every batch. Both train the same network with the same optimiser on all
60,000 images; after one epoch of warm-up each, they take turns, so that a drift of the machine's
speed meets both. Needs MNIST in DIR, unpacked as torchvision keeps it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets as vision_datasets
from torchvision import transforms

from mnistcli import batches, datasets, engine, registry
from mnistcli.precision import DTYPES, pick_device, pick_precision
from mnistcli.settings import TrainSettings, fit_budget, resolve
from mnistcli.state import TrainState


def usual_loop(
    settings: TrainSettings, data_dir: Path, *, device: str, precision: str, workers: int
) -> Callable[[], None]:
    """A function that trains one epoch as most scripts do."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    side = registry.architecture(settings.arch).input_px
    resize = [] if side == 28 else [transforms.Resize((side, side))]
    images = vision_datasets.MNIST(data_dir, transform=transforms.Compose([*resize, *steps]))
    loader = DataLoader(images, settings.batch_size, shuffle=True, num_workers=workers)
    model = registry.build(settings.arch, settings.network).to(device)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    dtype = DTYPES[precision]

    def epoch() -> None:
        model.train()
        loss_sum, num_right = 0.0, 0
        for batch_NCHW, batch_N in loader:
            x_NCHW, labels_N = batch_NCHW.to(device), batch_N.to(device)
            optimizer.zero_grad()
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                logits_NK = model(x_NCHW)
            loss = F.cross_entropy(logits_NK.float(), labels_N)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            num_right += int((logits_NK.argmax(dim=1) == labels_N).sum())

    return epoch


def our_loop(
    settings: TrainSettings, data_dir: Path, *, device: str, precision: str
) -> Callable[[], None]:
    """A function that trains one epoch with the engine."""
    source = datasets.dataset("mnist")
    examples = datasets.load(source, "train", data_dir).to(torch.device(device))
    side = registry.architecture(settings.arch).input_px
    normalisation = batches.Normalisation(source.mean, source.std, side)
    state = TrainState(settings, num_examples=len(examples), device=device, precision=precision)
    nothing = examples.take(torch.arange(0))
    epochs = engine.fit(state, examples, nothing, normalisation)
    return lambda: next(epochs) and None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="cnn-dropout", choices=list(registry.RECIPES))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the usual loop's DataLoader")
    parser.add_argument("--precision", default="float32")
    chosen = parser.parse_args()

    flags = {"recipe": chosen.recipe, "epochs": chosen.repeats + 1, "optimizer": "adam"}
    flags |= {"augment": False, "ema": 0, "weight_decay": 0, "schedule": "constant"}
    settings = fit_budget(resolve(flags, environ={}).settings)
    device = pick_device("auto").value
    precision = pick_precision(chosen.precision, device).value
    where = {"device": device, "precision": precision}
    loops = {
        "usual loop": usual_loop(settings, chosen.data_dir, workers=chosen.workers, **where),
        "this engine": our_loop(settings, chosen.data_dir, **where),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(chosen.repeats + 1):
        for name, epoch in loops.items():
            started = time.perf_counter()
            epoch()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    print(f"{chosen.recipe}, batch {settings.batch_size}, {precision} on {device}, 60,000 images")
    for name, taken in seconds.items():
        median, spread = statistics.median(taken), f"{min(taken):.1f} to {max(taken):.1f}"
        print(f"{name:>12}: {median:5.1f} s an epoch ({spread}), {60_000 / median:,.0f} images/s")
    pairs = zip(seconds["usual loop"], seconds["this engine"], strict=True)
    ratios = sorted(usual / ours for usual, ours in pairs)
    print(f"{'ratio':>12}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
