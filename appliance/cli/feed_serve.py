"""`assay feed serve-dir`: the feed's folder over plain HTTP, to try it or behind a proxy with TLS."""

from typing import Annotated

import typer

from appliance.cli.feed_options import FeedArgument
from appliance.cli.output import talk


def register(feed: typer.Typer) -> None:
    """Add the command to the noun."""
    feed.command("serve-dir")(serve_dir)


def serve_dir(
    folder: FeedArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8471,
) -> None:
    """Serve a feed's folder over HTTP until stopped; only loopback unless told otherwise."""
    from tournament_sync.feed.serve import feed_server

    with feed_server(folder, host=host, port=port) as server:
        talk(f"serving {folder} on http://{host}:{server.server_port}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            talk("stopped")
