"""Feed damaged and forged files to every reader of files from outside, and count what happens.

    python tests/fuzz.py all --tries 10000
    python tests/fuzz.py checkpoint --tries 500 --seed 7 --failures DIR
    python tests/fuzz.py --replay DIR/checkpoint-pth-damaged-0-123

An input must end in an error of ours or in a right result, within 10 seconds of the processor and
1 GiB, and touch nothing but its file. The tries run in fresh processes, some hundred in each, so
that one that hangs or crashes is counted and costs no other. The same seed gives the same inputs.
"""

import argparse
import ctypes
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from mnistcli.errors import MnistError
from tests.fuzz.readers import READERS, Input

# Seconds of the processor, so that a busy machine finds no more than an idle one; and those of
# the clock after which a try is taken to hang.
MAX_SECONDS, HANGING_SECONDS, MAX_MIB = 10.0, 60.0, 1024
# A message is read by a person, in a terminal.
MAX_MESSAGE = 1500
BATCH = 1000
# Until torch is loaded and the right files are made.
STARTING_SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a try ended: "error", "result" or "failure"; why, and what it took."""

    kind: str
    why: str = ""
    seconds: float = 0.0
    mib: float = 0.0


@dataclass
class Tally:
    """The tries of a reader."""

    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    mib: float = 0.0
    failures: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        self.seconds, self.mib = max(self.seconds, outcome.seconds), max(self.mib, outcome.mib)


def drawn(reader: str, seed: int, number: int) -> Input:
    """The input of a try."""
    return READERS[reader].draw(Random(f"{reader} {seed} {number}"))


def attempt(reader: str, given: Input, folder: Path) -> Outcome:
    """Read an input in `folder`, and judge what comes of it."""
    _forget_peak()
    before, start = _memory_mib("VmRSS"), time.process_time()
    kind, why = "result", ""
    try:
        with warnings.catch_warnings(action="error"):
            READERS[reader].check(given.how, given.content, folder)
    except MnistError as error:
        kind, why = "error", _wrong_with(error, folder)
    except BaseException as error:  # noqa: BLE001 (whatever a reader lets through is a finding)
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
    seconds = time.process_time() - start
    mib = max(0.0, _memory_mib("VmHWM") - before)
    if seconds > MAX_SECONDS:
        why = why or f"it took {seconds:.0f} seconds"
    elif mib > MAX_MIB:
        why = why or f"it took {mib:.0f} MiB"
    return Outcome("failure" if why else kind, why[:300], seconds, mib)


def _wrong_with(error: MnistError, folder: Path) -> str:
    """What is wrong with an error of ours, or nothing."""
    if not error.what or not error.fix:
        return "an error without a way out"
    length = len((error.what + error.why + error.fix).replace(str(folder), ""))
    return f"an error of {length} characters: {error.why[:60]}" if length > MAX_MESSAGE else ""


def _forget_peak() -> None:
    """Begin to measure the peak of the memory again, with none kept of before; only Linux can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
        path.write_text("5")


def _memory_mib(name: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) / 1024


def work(reader: str, seed: int, first: int, end: int, folder: Path) -> None:
    """The tries from `first` to `end` in this process, each announced and answered by a line."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    READERS[reader].seeds()
    warm = Input("warm", b"")
    attempt(reader, warm, folder)  # what loads torch is no try
    limit = int((_memory_mib("VmSize") + 6 * 1024) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _say("ready")
    for number in range(first, end):
        given = drawn(reader, seed, number)
        (folder / "given").write_bytes(given.content)
        _say(f"try {number} {given.how}")
        _say(json.dumps(asdict(attempt(reader, given, folder))))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fuzz(reader: str, *, tries: int, seed: int, failures: Path, start: int = 0) -> Tally:
    """All tries of a reader, in processes of their own."""
    tally, number, end = Tally(), start, start + tries
    while number < end:
        last = min(number + BATCH, end)
        for done, how, outcome, content in _batch(reader, seed, number, last):
            number = done + 1
            tally.add(outcome)
            if outcome.kind == "failure":
                failures.mkdir(parents=True, exist_ok=True)
                path = failures / f"{reader}-{how}-{seed}-{done}"
                path.write_bytes(content)
                tally.failures.setdefault(outcome.why[:70], []).append(path)
    return tally


def _batch(
    reader: str, seed: int, first: int, end: int
) -> Iterator[tuple[int, str, Outcome, bytes]]:
    """The outcomes of tries in one process, up to one that hangs or crashes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = (reader, seed, first, end, folder)
        process = subprocess.Popen(
            [sys.executable, __file__, "--work", *map(str, arguments)],
            stdout=subprocess.PIPE,
            cwd=folder,
            text=True,
        )
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout
        thread = threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True)
        thread.start()
        try:
            if _next(lines, STARTING_SECONDS) != "ready":
                raise SystemExit(f"the process for {reader} did not start")
            for number in range(first, end):
                words = (_next(lines, STARTING_SECONDS) or "").split()
                if len(words) != 3:
                    raise SystemExit(f"try {number} of {reader} could not be made")
                answer = _next(lines, HANGING_SECONDS)
                content = (folder / "given").read_bytes()
                if not answer:
                    why = "it hangs" if answer is None else "it crashes the process"
                    yield number, words[2], Outcome("failure", why, HANGING_SECONDS), content
                    return
                yield number, words[2], Outcome(**json.loads(answer)), content
        finally:
            process.kill()
            process.wait()
            thread.join()
            process.stdout.close()


def _pass_on(stream: Iterator[str], lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put("")


def _next(lines: "queue.Queue[str]", seconds: float) -> str | None:
    """The next line; empty if the process is gone, None if none comes in time."""
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return None


def replay(path: Path) -> Outcome:
    """One saved failure again, in this process."""
    reader = next(
        name for name in sorted(READERS, key=len, reverse=True) if path.name.startswith(f"{name}-")
    )
    how = path.name.removeprefix(f"{reader}-").rsplit("-", 2)[0]
    with tempfile.TemporaryDirectory() as folder:
        return attempt(reader, Input(how, path.read_bytes()), Path(folder))


def table(tallies: dict[str, Tally]) -> str:
    """The figures of every reader."""
    head = ("reader", "tries", "errors", "results", "slowest s", "peak MiB", "failures")
    rows = [
        (
            name,
            f"{each.kinds.total():,}",
            f"{each.kinds['error']:,}",
            f"{each.kinds['result']:,}",
            f"{each.seconds:.2f}",
            f"{each.mib:.0f}",
            f"{each.kinds['failure']:,}",
        )
        for name, each in tallies.items()
    ]
    return "\n".join(
        "  ".join([row[0].ljust(14), *(cell.rjust(9) for cell in row[1:])]) for row in [head, *rows]
    )


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--work"]:
        reader, seed, first, end, folder = arguments[1:]
        work(reader, int(seed), int(first), int(end), Path(folder))
        return 0
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader", nargs="?", choices=[*READERS, "all"])
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the number of the first try")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--replay", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.replay:
        outcome = replay(options.replay)
        _say(f"{outcome.kind}: {outcome.why or 'as it should be'}")
        return int(outcome.kind == "failure")
    if not options.reader:
        parser.error("name a reader, or all")
    tallies: dict[str, Tally] = {}
    for name in READERS if options.reader == "all" else [options.reader]:
        given = {"tries": options.tries, "seed": options.seed, "start": options.start}
        tallies[name] = fuzz(name, failures=options.failures, **given)
        for why, paths in tallies[name].failures.items():
            _say(f"{name}: {len(paths)} x {why}\n    {paths[0]}")
    _say(table(tallies))
    return int(any(each.failures for each in tallies.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
