"""`python -m appliance.sync_due HOME`: syncs what is due there, and ends. Started by the worker."""

import logging
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from appliance.assembly import open_appliance
from appliance.schedule import run_due
from appliance.settings import parse_settings

log = logging.getLogger(__name__)

LIMIT_S: Final = 1800  # a hundred champions of 100 MB over a slow line


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Sync what is due in the home that is named; 0 even if a source failed, which its row says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request
    # Nobody catches it: whatever the pass hangs in, the process is gone then.
    signal.alarm(LIMIT_S)
    try:
        (home,) = arguments
        appliance = open_appliance(parse_settings(environ, home=home))
        for done in run_due(appliance, appliance.clock.now(), random.random):
            log.info("source=%s %s", done.location, done.result)
    finally:
        signal.alarm(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
