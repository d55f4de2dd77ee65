"""`assay version`."""

import typer

from attestation import __version__


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("version")(version)


def version() -> None:
    """Print the version, and whose champions Assay runs."""
    print(f"assay {__version__}")
    print("Runs champions of Gradients-on-Demand. Gradients.io (https://gradients.io) is owned by Grads LLC.")
