"""`assay log`: the audit log's head, its proofs, its check; local on the home."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import HomeOption, read_settings
from appliance.cli.output import talk

log = typer.Typer(help="The audit log.", no_args_is_help=True)
CheckpointOption = Annotated[Path, typer.Option("--from", metavar="FILE", help="A checkpoint seen before.")]


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(log, name="log")


@log.command("checkpoint")
def checkpoint(home: HomeOption = None) -> None:
    """Print the newest signed head; keep it, and later heads must continue it."""
    from appliance.assembly import open_appliance
    from appliance.errors import NotReadyError

    note = open_appliance(read_settings(home=home)).log.checkpoint()
    if note is None:
        raise NotReadyError("nothing is logged yet")
    print(note.decode(), end="")


@log.command("consistency")
def consistency(
    seen: CheckpointOption,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Head of an evidence folder; else the newest.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Print the proof for `assay-verify --checkpoint SEEN --consistency PROOF`."""
    from appliance.assembly import open_appliance
    from appliance.errors import HomeError
    from attestation.checkpoint import open_checkpoint

    appliance = open_appliance(read_settings(home=home))
    try:
        old, new = seen.read_bytes(), None if to is None else to.read_bytes()
    except OSError as error:
        raise HomeError(f"{error.filename}: the checkpoint cannot be read: {error.strerror}") from error
    size = open_checkpoint(old, vkey=appliance.home.trust().log_vkey).size
    print(appliance.log.consistency(size, to=new).decode(), end="")


@log.command("fsck")
def fsck(home: HomeOption = None) -> None:
    """Recompute the whole log from the database and compare it with its signed head."""
    from appliance.assembly import open_appliance
    from appliance.errors import EvidenceError
    from audit.fsck import check_log

    appliance = open_appliance(read_settings(home=home))
    findings = check_log(
        appliance.engine,
        origin=appliance.home.log_origin,
        vkey=appliance.home.trust().log_vkey,
        checkpoint_path=appliance.home.log_checkpoint_path,
    )
    for finding in findings:
        print(f"{finding.where}: {finding.problem}")
    if findings:
        raise EvidenceError(f"the log is not whole: {len(findings)} findings")
    talk("the log is whole")
