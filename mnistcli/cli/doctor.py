"""`mnist doctor`."""

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
            help="Look at this device only: cpu, cuda or mps; auto for all.",
            metavar="NAME",
            autocompletion=complete_from(values(DeviceName)),
        ),
    ] = "auto",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help="How long to train at most; 0 for not at all.",
            metavar="N",
            min=0,
            max=3600,
        ),
    ] = 10.0,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("ok, warning or failed")] = False,
) -> None:
    """Find out what works on this machine: PyTorch, its devices, data, disks.

    Every device computes and is compared with float64, trains in every number
    format, and trains twice for the same bits; then the default network trains
    on scikit-learn's digits. Downloads nothing and leaves nothing behind. What
    touches a driver runs in a process of its own, which may hang or crash.

    The exit code is 0 also with warnings; 4 if a device or number format fails
    that should work, else 3 if data are damaged, else 1 if anything else fails.

    Examples:
    $ mnist doctor
    $ mnist doctor --device cpu --seconds 3
    $ mnist doctor --json
    """
    from mnistcli.diagnostics.checks import DoctorOptions
    from mnistcli.diagnostics.doctor import run_checks, summarize_checks
    from mnistcli.views.doctor import doctor_progress, show_checks

    wanted = DoctorOptions(device, str(data_dir) if data_dir else None, str(out), seconds)
    with doctor_progress(quiet=quiet or json) as on_start:
        checks = list(run_checks(wanted, on_start=on_start))
    verdict = summarize_checks(checks)
    show_checks(checks, verdict, as_json=json, quiet=quiet)
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
