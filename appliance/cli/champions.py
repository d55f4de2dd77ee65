"""`assay champions`: the noun; its verbs stand in the modules beside it, one family each. Local on the home.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

import typer

from appliance.cli import (
    champions_approve,
    champions_build,
    champions_decide,
    champions_default,
    champions_intake,
    champions_look,
    champions_read,
    champions_sync,
)

champions = typer.Typer(
    help="Tournament champions (Gradients.io, https://gradients.io).", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(champions, name="champions")


# In the order in which the help shows them.
for family in (
    champions_read,
    champions_look,
    champions_sync,
    champions_intake,
    champions_approve,
    champions_decide,
    champions_default,
    champions_build,
):
    family.register(champions)
