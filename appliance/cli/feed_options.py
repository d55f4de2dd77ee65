"""Options that the commands of `assay feed` share."""

from pathlib import Path
from typing import Annotated, Final

import typer

from appliance.cli.output import read_small

FeedArgument = Annotated[Path, typer.Argument(metavar="FEED", help="The feed's folder.")]
KeysOption = Annotated[Path, typer.Option("--keys", metavar="DIR", help="Folder with the keys at hand.")]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="File with the passphrase of the feed's keys."),
]
MAX_PASSPHRASE_BYTES: Final = 1024


def read_passphrase(file: Path | None) -> bytes | None:
    """The file's one line, None without a file. Raises InvalidOrderError."""
    return None if file is None else read_small(file, max_bytes=MAX_PASSPHRASE_BYTES).rstrip(b"\r\n")
