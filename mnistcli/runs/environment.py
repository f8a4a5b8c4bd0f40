"""`environment.json`: where and with what a run was trained."""

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mnistcli.errors import DataError
from mnistcli.runs.checkpoint import software_versions
from mnistcli.runs.directory import Run, read_record, write_record
from mnistcli.system.machine import num_cores


def write_environment(run: Run, epoch: int, environment: Mapping[str, Any]) -> None:
    """Write `environment.json`; of a run that goes on after `epoch`, beside what is there.

    Raises:
        RunError: the directory cannot be written.
    """
    record = dict(environment)
    if epoch:
        try:
            earlier = read_record(run, "environment.json")
        except DataError:  # lost; the run goes on all the same
            earlier = {}
        lives = earlier.get("resumed", [])
        lives = lives if isinstance(lives, list) else []
        record = {**earlier, "resumed": [*lives, {"after_epoch": epoch, **record}]}
    write_record(run, "environment.json", record)


def describe_environment(**choices: Any) -> dict[str, Any]:
    """Where and with what a run was made: machine, versions, command and `choices`."""
    import torch

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["mnist", *sys.argv[1:]],
        "versions": software_versions(),
        "platform": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "num_cores": num_cores(),
        "num_threads": torch.get_num_threads(),
        **choices,
    }
