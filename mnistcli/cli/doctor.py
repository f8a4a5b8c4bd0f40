"""`mnist doctor`: what works on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import DataDir, Json, Out, complete_from, quiet_option
from mnistcli.config.choices import DeviceName, values


def doctor(
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="Check this device only: cpu, cuda or mps; auto for all.",
            metavar="NAME",
            autocompletion=complete_from(values(DeviceName)),
        ),
    ] = "auto",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help="Seconds to train at most; 0 skips the training.",
            metavar="X",
            min=0,
            max=3600,
        ),
    ] = 10.0,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("ok, warning or failed")] = False,
) -> None:
    """Check what works on this machine: PyTorch, its devices, data, disks.

    Every device is compared with float64, trains in every precision, and trains
    twice to see whether results are bitwise identical. Then the default network
    trains on scikit-learn's digits. Nothing is downloaded, and no file is left
    behind. A driver that hangs or crashes is reported like any other failure.

    Exit code: 4 if a device or a precision fails that should work, else 3 if
    data are damaged, else 1 if anything else fails; warnings alone exit with 0.

    Examples:
    $ mnist doctor
    $ mnist doctor --device cpu --seconds 3
    $ mnist doctor --json
    """
    from mnistcli.diagnostics.checks import DoctorOptions
    from mnistcli.diagnostics.doctor import run_checks
    from mnistcli.diagnostics.verdict import decide_verdict
    from mnistcli.system.machine import spare_busy_cores
    from mnistcli.views.doctor import doctor_progress, show_checks

    spare_busy_cores()  # for the processes that check
    options = DoctorOptions(device, str(data_dir) if data_dir else None, str(out), seconds)
    with doctor_progress(quiet=quiet or json) as on_start:
        checks = list(run_checks(options, on_start=on_start))
    verdict = decide_verdict(checks)
    show_checks(checks, verdict, as_json=json, quiet=quiet)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
