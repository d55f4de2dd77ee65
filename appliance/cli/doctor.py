"""`assay doctor`: tries hostile probes behind every kind of walls that this machine can put up."""

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk

if TYPE_CHECKING:
    from runner.selfcheck import SelfcheckReport


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(
    output: OutputOption = Format.TEXT,
    every: Annotated[bool, typer.Option("--all", help="Show the probes that were stopped, too.")] = False,
    driver: Annotated[
        list[str] | None,
        typer.Option(help="Driver to try; again for more. Without it, all that this machine can use."),
    ] = None,
) -> None:
    """Say whether this machine can isolate champions, by trying to break out, with every driver."""
    from runner.errors import SandboxUnavailableError
    from runner.sandbox.drivers import sandbox_of

    if not driver:  # what this appliance would take must work; the others may
        sandbox_of(read_settings().driver).check()
    usable, reasons = _usable(driver or [])
    for name, reason in reasons.items():
        talk(f"{name}: cannot be used here: {reason}")
    if not usable or (driver and reasons):
        raise SandboxUnavailableError("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
    reports = [_try(name, profile) for name in usable for profile in ("strict", "champion")]
    if output is Format.JSON:
        print_json([{**report.as_json(), "digest": report.digest_hex} for report in reports])
    else:
        for report in reports:
            _show(report, every=every)
    if weak := [f"{report.driver} ({report.profile})" for report in reports if not report.passed]:
        raise SandboxUnavailableError(
            f"these walls do not hold on this machine: {', '.join(weak)}; see above"
        )


def _usable(asked: list[str]) -> tuple[list[str], dict[str, str]]:
    """Drivers that work here, and why the others do not."""
    from runner.errors import SandboxUnavailableError
    from runner.sandbox.drivers import DRIVERS, sandbox_of

    usable, reasons = [], {}
    for name in asked or DRIVERS:
        try:
            sandbox_of(name).check()
            usable.append(name)
        except SandboxUnavailableError as error:
            reasons[name] = str(error)
    return usable, reasons


def _try(driver: str, profile: str) -> "SelfcheckReport":
    import tempfile
    from pathlib import Path

    from runner.runtime import locate_runtime
    from runner.sandbox.drivers import sandbox_of
    from runner.selfcheck import run_selfcheck
    from runner.spec import Profile

    with tempfile.TemporaryDirectory(prefix="assay-doctor-") as scratch:
        return run_selfcheck(
            sandbox_of(driver),
            runtime=locate_runtime(),
            work_dir=Path(scratch),
            on_progress=talk,
            profile=Profile(profile),
        )


def _show(report: "SelfcheckReport", *, every: bool) -> None:
    shown = (*report.bare, *report.results) if every else report.failures
    if shown:
        print_table(
            ("probe", "answer", "wanted", "why", "detail"),
            [(r.probe, r.answer, r.expected, r.why, r.detail) for r in shown],
        )
    for sentence in report.disclosed:
        talk(f"known and disclosed: {sentence}")
    held = sum(r.holds for r in report.results)
    told = f"{held} of {len(report.results)} checks hold; report sha256:{report.digest_hex}"
    print(f"{report.driver}, {report.profile}: {told}")
