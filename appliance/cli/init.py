"""`assay init`, `assay people`, `assay trust`: a home, who may sign, and the pin for strangers."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk
from attestation.trust import Role

people = typer.Typer(help="Who may sign approvals and releases.", no_args_is_help=True)
trust = typer.Typer(help="The trust root that auditors verify against.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("init")(init)
    app.add_typer(people, name="people")
    app.add_typer(trust, name="trust")


def init(
    home: HomeOption = None,
    name: Annotated[str, typer.Option(help="The appliance's name in its log's origin.")] = "appliance",
) -> None:
    """Make a new home: keys, log, trust root, empty database."""
    from appliance.home import create_home
    from appliance.ports import SystemClock
    from appliance.store.engine import open_database

    made = create_home(read_settings(home=home).home, name=name, now=SystemClock().now())
    open_database(made.db_path).dispose()
    talk(f"home {made.root} made; the log's origin is {made.log_origin}")


@people.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Lower-case name; approvals carry it.")],
    role: Annotated[Role, typer.Option(help="approver or publisher")],
    home: HomeOption = None,
) -> None:
    """Make a signing key in this home and trust it: for a trial, or where the operator may hold it."""
    import getpass

    from appliance import people as store
    from appliance.assembly import open_appliance

    key_id = store.add(
        open_appliance(read_settings(home=home)), name=name, role=role, actor=getpass.getuser()
    )
    talk(f"{name} signs as {role} with key {key_id}")


@people.command("trust")
def trust_public_key(
    name: Annotated[str, typer.Argument(help="Lower-case name of the key's owner.")],
    role: Annotated[Role, typer.Option(help="approver or publisher")],
    public_key: Annotated[Path, typer.Option(metavar="FILE", help="P-256 public key, PEM.")],
    valid_from: Annotated[
        str | None, typer.Option(metavar="TIME", help="2026-11-21T02:00:00Z; from now on if left out.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Trust the key of somebody who keeps the private half elsewhere, a feed's publisher say."""
    import getpass

    from appliance import people as store
    from appliance.assembly import open_appliance
    from appliance.errors import HomeError
    from attestation.times import parse_time

    appliance = open_appliance(read_settings(home=home))
    try:
        pem = public_key.read_bytes()
    except OSError as error:
        raise HomeError(f"{public_key}: the public key cannot be read: {error.strerror}") from error
    since = appliance.clock.now() if valid_from is None else parse_time(valid_from)
    key_id = store.trust(
        appliance, name=name, role=role, public_pem=pem, valid_from=since, actor=getpass.getuser()
    )
    talk(f"{name} is trusted as {role} with key {key_id}")


@trust.command("show")
def show(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """Show the trusted keys and the digest that strangers pin."""
    from appliance.home import open_home
    from attestation.trust import trust_sha256

    opened = open_home(read_settings(home=home).home)
    pin, root = trust_sha256(opened.trust_files()), opened.trust()
    rows = [{"role": k.role.value, "name": k.name, "key": k.key_id} for k in root.keys]
    if output is Format.JSON:
        print_json({"trust_sha256": pin, "log": root.log_vkey, "keys": rows})
        return
    print_table(("role", "name", "key"), [[r["role"], r["name"], r["key"]] for r in rows])
    print(f"\nlog    {root.log_vkey}\npin    {pin}")


@trust.command("export")
def export(
    into: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")], home: HomeOption = None
) -> None:
    """Write the trust root as the folder that `assay-verify --trust` takes."""
    from appliance.errors import ConflictError
    from appliance.home import open_home

    files = open_home(read_settings(home=home).home).trust_files()
    if into.exists():
        raise ConflictError(f"{into}: exists; give a new folder")
    for name, content in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(content)
    talk(f"trust root written to {into}")
