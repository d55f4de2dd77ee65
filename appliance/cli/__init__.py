"""`assay`: one noun per module. Each has `register(app)`; heavy imports are inside commands."""

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from appliance.cli.output import exit_code_of, talk
from appliance.errors import ApplianceError
from attestation.errors import AttestationError
from audit.errors import AuditError
from runner.errors import RunnerError
from tournament_sync.errors import SyncError

# In the order in which the help shows them. A new noun is a new module and a line here.
NOUNS: Final = (
    "version",
    "demo",
    "init",
    "serve",
    "worker",
    "runs",
    "champions",
    "feed",
    "inputs",
    "images",
    "nodes",
    "tokens",
    "log",
    "doctor",
)


class _Refusing(TyperGroup):
    """Turns our errors into one sentence on stderr and an exit code; everything else is a bug and crashes."""

    def invoke(self, ctx: Any) -> Any:  # Any: typer's own click, which it does not export
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ApplianceError, AttestationError, AuditError, RunnerError, SyncError) as error:
            talk(f"assay: {_sentence(error)}")
            raise typer.Exit(exit_code_of(error)) from error


def make_app() -> typer.Typer:
    """The command line with every noun registered."""
    app = typer.Typer(
        name="assay",
        cls=_Refusing,
        help="Fine-tune with tournament champions on your own machines, and prove every model.",
        epilog=(
            "Exit codes: 0 done, 1 refused, 2 usage, 3 cannot decide or unreachable, 4 authentication. "
            "Champions: Gradients.io (https://gradients.io)."
        ),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_top)
    for noun in NOUNS:
        import_module(f"{__name__}.{noun}").register(app)
    return app


def main() -> None:
    """The entry point `assay`."""
    make_app()()


def _sentence(error: Exception) -> str:
    """The error, and what is wanted where its message alone does not say it."""
    if not isinstance(error, ApplianceError) or error.wanted is None or error.wanted in str(error):
        return str(error)
    option = f"{error.checked} " if (error.checked or "").startswith("--") else ""
    return f"{error}; wanted {option}{error.wanted}"


def _top() -> None:
    pass
