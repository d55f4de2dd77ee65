"""`assay worker`."""

import typer

from appliance.cli.options import HomeOption, read_settings
from appliance.cli.output import talk


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("worker")(worker)


def worker(home: HomeOption = None) -> None:
    """Carry runs out, one step after another, until stopped; jobs in flight outlive it."""
    import logging
    import signal
    import threading

    from appliance.assembly import open_appliance, worker_ports
    from appliance.worker import work
    from runner.sandbox.bubblewrap import BubblewrapSandbox

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request of a sync
    appliance = open_appliance(read_settings(home=home))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Without walls nothing is started, and runs wait: better than failing each of them.
    BubblewrapSandbox().check()
    with appliance.home.worker_lock():
        talk("measuring the guests' Python environment")
        ports = worker_ports(appliance)
        talk(f"working on {appliance.home.root}")
        work(ports, poll_interval_s=appliance.settings.poll_interval_s, should_stop=stop.is_set)
