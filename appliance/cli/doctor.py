"""`assay doctor`: tries hostile probes inside the real sandbox of this machine."""

from typing import Annotated

import typer

from appliance.cli.options import OutputOption
from appliance.cli.output import Format, print_json, print_table, talk


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    output: OutputOption = Format.TEXT,
    every: Annotated[bool, typer.Option("--all", help="Show the probes that were stopped, too.")] = False,
) -> None:
    """Say whether this machine can isolate champions, by trying to break out."""
    import tempfile
    from pathlib import Path

    from runner.errors import SandboxUnavailableError
    from runner.runtime import locate_runtime
    from runner.sandbox.bubblewrap import BubblewrapSandbox
    from runner.selfcheck import run_selfcheck

    sandbox = BubblewrapSandbox()
    sandbox.check()
    with tempfile.TemporaryDirectory(prefix="assay-doctor-") as scratch:
        report = run_selfcheck(sandbox, runtime=locate_runtime(), work_dir=Path(scratch), on_progress=talk)
    if output is Format.JSON:
        print_json({**report.as_json(), "digest": report.digest_hex})
    else:
        shown = (*report.bare, *report.results) if every else report.failures
        if shown:
            print_table(
                ("probe", "answer", "wanted", "why", "detail"),
                [(r.probe, r.answer, r.expected, r.why, r.detail) for r in shown],
            )
        for sentence in report.disclosed:
            talk(f"known and disclosed: {sentence}")
        stopped = sum(r.holds for r in report.results)
        print(f"{stopped} of {len(report.results)} checks hold; report sha256:{report.digest_hex}")
    if not report.passed:
        raise SandboxUnavailableError(f"the {sandbox.name} sandbox of this machine does not hold; see above")
