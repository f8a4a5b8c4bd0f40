"""What the machine gives to this process."""

import os
import sys

import pytest

from mnistcli.machine import num_cores


def test_only_cores_that_the_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert num_cores() == (2 if sys.platform == "linux" else 64)
