"""`assay serve`."""

import os
import socket
from typing import Annotated

import typer

from appliance.cli.options import HomeOption, read_settings
from appliance.cli.output import talk
from appliance.errors import ConflictError
from appliance.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve)


def serve(
    home: HomeOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (ASSAY_LISTEN_HOST).")] = None,
    port: Annotated[str | None, typer.Option(help="Port; 0 takes a free one (ASSAY_LISTEN_PORT).")] = None,
) -> None:
    """Serve the API. Runs are carried out by `assay worker`, another process."""
    import logging

    import uvicorn

    from appliance.api.deps import Services
    from appliance.app import create_app, new_run_id
    from appliance.assembly import capacity_of, open_appliance

    settings = read_settings(home=home, listen_host=host, listen_port=port)
    appliance = open_appliance(settings)
    services = Services(
        engine=appliance.engine,
        home=appliance.home,
        capacity=capacity_of(settings),
        clock=appliance.clock,
        new_run_id=new_run_id,
        appliance=appliance,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = uvicorn.Config(create_app(services), log_config=None, server_header=False)
    with _listen(settings) as listener:
        talk(f"listening on http://{settings.listen_host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.listen_host, settings.listen_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConflictError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}; stop what uses it or give --port"
        ) from error
