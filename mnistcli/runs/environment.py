"""`environment.json`: the machine, versions and command of a run."""

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mnistcli.errors import DataError
from mnistcli.runs.checkpoint import software_versions
from mnistcli.runs.directory import Run, read_record, write_record
from mnistcli.system.machine import num_cores


def describe_environment(**choices: Any) -> dict[str, Any]:
    """The machine, versions, command and the automatic `choices` of a training process."""
    import torch

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["mnist", *sys.argv[1:]],
        "versions": software_versions(),
        "platform": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "num_cores": num_cores(),
        "num_threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        **choices,
    }


def write_environment(run: Run, epoch: int, environment: Mapping[str, Any]) -> None:
    """Write `environment.json`; for a run resumed after `epoch`, append to its "resumed" list.

    Raises:
        RunError: the file cannot be written.
    """
    record = dict(environment)
    if epoch:
        try:
            original = read_record(run, "environment.json")
        except DataError:  # not worth stopping a run for
            original = {}
        resumed = original.get("resumed")
        resumed = resumed if isinstance(resumed, list) else []
        record = {**original, "resumed": [*resumed, {"after_epoch": epoch, **record}]}
    write_record(run, "environment.json", record)
