"""Options that several commands share, and what they are turned into."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.output import Format
from appliance.errors import UnauthorizedError
from appliance.settings import Settings, parse_settings

if TYPE_CHECKING:
    from appliance.cli.client import ApiClient

HomeOption = Annotated[
    str | None, typer.Option("--home", metavar="DIR", help="The appliance's home (ASSAY_HOME).")
]
UrlOption = Annotated[
    str, typer.Option("--url", envvar="ASSAY_URL", metavar="URL", help="Where `assay serve` listens.")
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="File with the API token; else ASSAY_TOKEN."),
]
ActorOption = Annotated[
    str, typer.Option("--as", metavar="NAME", help="Who does this; the log has the name.")
]
ChampionArgument = Annotated[
    str, typer.Argument(metavar="CHAMPION", help="Its name, or the digest of its manifest.")
]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="Text for people, JSON for programs.")]
DEFAULT_URL = "http://127.0.0.1:8470"


def read_settings(**flags: str | None) -> Settings:
    """Settings from this process's environment; flags win. Raises SettingsError."""
    return parse_settings(os.environ, **flags)


def open_client(url: str, token_file: Path | None) -> "ApiClient":
    """A client of the API at `url`. Raises UnauthorizedError if there is no token."""
    from appliance.cli.client import ApiClient

    return ApiClient(url, token=_read_token(token_file))


def _read_token(token_file: Path | None) -> str:
    if token_file is None:
        token = os.environ.get("ASSAY_TOKEN", "")
        if not token:
            raise UnauthorizedError("no token: set ASSAY_TOKEN or give --token-file")
        return token
    try:
        return token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnauthorizedError(f"{token_file}: the token cannot be read: {error}") from error
