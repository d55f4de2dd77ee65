"""`assay champions approve`: with a key here, or with one that never comes here."""

import tempfile
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from appliance.cli.candidates import take
from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, read_small, talk, write_new

MAX_BUNDLE_BYTES: Final = 64 << 10
_T = TypeVar("_T")


def register(champions: typer.Typer) -> None:
    """Add the verb to the noun."""
    champions.command("approve")(approve)


def approve(
    name: Annotated[
        str | None, typer.Argument(metavar="CHAMPION", help="Its name here; not with --request.")
    ] = None,
    actor: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who approves.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it becomes part of the signed approval.")] = None,
    printed_name: Annotated[str | None, typer.Option(help="Full name, for the report.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take this approval, signed elsewhere.")
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign what `show --approval-request` printed; no home."),
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option(metavar="KEY", help="The approver's P-256 key (PKCS#8, mode 0600).")
    ] = None,
    bundle_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the approval signed so is written.")
    ] = None,
    seen: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Refuse unless these are the request's files.")
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Approve as another person than the proposer: sign here, sign elsewhere, or hand in what was signed elsewhere."""
    if bundle is not None:
        _take(_given(name, "CHAMPION"), bundle, home=home)
        _answer({"champion": name, "state": "approved"}, output)
        return
    said = {
        "approver": _given(actor, "--as"),
        "printed_name": _given(printed_name, "--printed-name"),
        "reason": _given(reason, "--reason"),
    }
    if request is not None:
        key, out = _given(sign_with, "--sign-with"), _given(bundle_out, "--bundle-out")
        signed = _sign_elsewhere(request, said, key=key, out=out, seen=seen)
        _answer({"champion": signed, "approver": actor, "state": "signed", "bundle": str(out)}, output)
    else:
        _sign_here(_given(name, "CHAMPION"), said, home=home)
        _answer({"champion": name, "approver": actor, "state": "approved"}, output)


def _answer(done: dict[str, str | None], output: Format) -> None:
    if output is Format.JSON:
        print_json(done)


def _sign_here(name: str, said: dict[str, str], *, home: str | None) -> None:
    from appliance import adoption
    from appliance.assembly import open_appliance
    from appliance.syncing import champion_named

    appliance = open_appliance(read_settings(home=home))
    adoption.approve(appliance, champion_named(appliance, name), **said)
    talk(f"{said['approver']} approved {name}")


def _take(name: str, bundle: Path, *, home: str | None) -> None:
    from appliance import adoption
    from appliance.assembly import open_appliance
    from appliance.syncing import champion_named

    appliance = open_appliance(read_settings(home=home))
    approval = read_small(bundle, max_bytes=MAX_BUNDLE_BYTES)
    adoption.approve_signed(appliance, champion_named(appliance, name), approval)
    talk(f"the approval of {name} is taken")


def _sign_elsewhere(request: Path, said: dict[str, str], *, key: Path, out: Path, seen: str | None) -> str:
    """The champion's name. Raises AdmissionError for other files than the request's."""
    from appliance.approval_request import MAX_REQUEST_BYTES, parse_request, sign_request
    from appliance.errors import AdmissionError
    from appliance.keys.file import load_claim_key
    from appliance.ports import SystemClock

    asked = parse_request(read_small(request, max_bytes=MAX_REQUEST_BYTES))
    if seen is not None:
        with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
            found = take(seen, into=Path(scratch) / "taken").manifest.root_sha256
        if found != asked.manifest_sha256:
            raise AdmissionError(
                f"{seen} has manifest sha256:{found}, the request is for sha256:{asked.manifest_sha256}"
            )
    write_new(out, sign_request(asked, load_claim_key(key), now=SystemClock().now(), **said))
    talk(
        f"{said['approver']} approved {asked.name}, manifest sha256:{asked.manifest_sha256}; send {out} back"
    )
    return asked.name


def _given(value: _T | None, option: str) -> _T:
    if value is None:
        raise typer.BadParameter(f"{option} is missing", param_hint=option)
    return value
