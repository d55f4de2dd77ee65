"""`assay tokens`: local on the home, because whoever makes the first token has none."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk
from appliance.tokens import Role, Token

if TYPE_CHECKING:
    from sqlalchemy import Engine

tokens = typer.Typer(help="API tokens: who may ask the appliance for what.", no_args_is_help=True)
_COLUMNS = ("id", "name", "role", "created_at", "revoked_at")


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(tokens, name="tokens")


@tokens.command("create")
def create(
    name: Annotated[
        str,
        typer.Argument(
            help="Whom it stands for: lower-case letters, digits, dashes; the audit log has this name."
        ),
    ],
    role: Annotated[Role, typer.Option(help="What it may do; everybody may read how runs stand.")],
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make a token and print it, this once."""
    from appliance.home import checked_name
    from appliance.ports import SystemClock
    from appliance.store import tokens as store

    checked = checked_name(name)  # else a name could look like another person's
    with _open_engine(home).begin() as conn:
        new = store.create(conn, name=checked, role=role, actor=getpass.getuser(), now=SystemClock().now())
    if output is Format.JSON:
        print_json({**_row(new.token), "token": new.secret})
        return
    print(new.secret)
    talk(f"token {new.token.id} for {name}, {role}; it cannot be shown again")


@tokens.command("list")
def list_all(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """List all tokens ever made; never a secret."""
    from appliance.store import tokens as store
    from appliance.store.engine import reading

    with reading(_open_engine(home)) as conn:
        rows = [_row(token) for token in store.list_tokens(conn)]
    if output is Format.JSON:
        print_json({"tokens": rows})
    else:
        print_table(_COLUMNS, [[row[name] or "-" for name in _COLUMNS] for row in rows])


@tokens.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id from `assay tokens list`.")],
    home: HomeOption = None,
) -> None:
    """Revoke a token at once."""
    from appliance.ports import SystemClock
    from appliance.store import tokens as store

    with _open_engine(home).begin() as conn:
        token = store.revoke(conn, token_id, actor=getpass.getuser(), now=SystemClock().now())
    talk(f"token {token.id} of {token.name} is revoked since {_row(token)['revoked_at']}")


def _open_engine(home: str | None) -> "Engine":
    from appliance.home import open_home
    from appliance.store.engine import open_database

    return open_database(open_home(read_settings(home=home).home).db_path)


def _row(token: Token) -> dict[str, Any]:  # Any: plain JSON
    from attestation.times import format_time

    revoked = None if token.revoked_at is None else format_time(token.revoked_at)
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "created_at": format_time(token.created_at),
        "revoked_at": revoked,
    }
