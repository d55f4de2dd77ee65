"""The parts of an appliance, opened from its settings: what commands and processes work with."""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from appliance.artifacts import FolderStore
from appliance.attest import RuntimeFacts
from appliance.errors import HomeError
from appliance.home import Home, open_home
from appliance.isolation_policy import load_isolation_policy
from appliance.jobs import EVALUATOR_FILE
from appliance.policy import PolicySet, load_policy
from appliance.ports import Clock, Ports, Store, SystemClock
from appliance.settings import Settings
from appliance.store.engine import open_database
from appliance.waiting import Capacity
from attestation.keys import Signer
from audit.log import AuditLog
from runner.launcher.local import LocalLauncher
from runner.runtime import locate_runtime, measure_runtime
from runner.sandbox.drivers import sandbox_of
from runner.spec import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Appliance:
    """An opened home with everything that belongs to it."""

    settings: Settings
    home: Home
    engine: Engine
    store: Store
    clock: Clock
    signer: Signer
    log: AuditLog

    def admission_policy(self) -> PolicySet:
        """The active policy set. Raises PolicyError, and then nothing is admitted."""
        return load_policy(self.settings.policies_dir / "admission")


def open_appliance(settings: Settings) -> Appliance:
    """The appliance whose home the settings name. Raises HomeError."""
    home = open_home(settings.home)
    engine = open_database(home.db_path)
    return Appliance(
        settings=settings,
        home=home,
        engine=engine,
        store=FolderStore(home.store_dir),
        clock=SystemClock(),
        signer=home.appliance_signer(),
        log=AuditLog(
            engine,
            origin=home.log_origin,
            signer=home.log_signer(),
            checkpoint_path=home.log_checkpoint_path,
        ),
    )


def worker_ports(appliance: Appliance) -> Ports:
    """What the pipeline needs; the Python environment of guests is measured here, once per worker."""
    runtime = locate_runtime()
    measured = measure_runtime(runtime)
    return Ports(
        engine=appliance.engine,
        home=appliance.home,
        store=appliance.store,
        launcher=LocalLauncher(appliance.home.jobs_dir, python=sys.executable),
        log=appliance.log,
        clock=appliance.clock,
        signer=appliance.signer,
        capacity=capacity_of(appliance.settings),
        limits=Limits(wall_clock_s=0, output_bytes=appliance.settings.output_mib << 20),
        runtime=runtime,
        runtime_facts=RuntimeFacts(python=measured.python_version, packages_sha256=measured.sha256),
        evaluator=take_evaluator(appliance),
        isolation=partial(load_isolation_policy, appliance.settings.policies_dir),
        check_driver=lambda driver: sandbox_of(driver).check(),
    )


def capacity_of(settings: Settings) -> Capacity:
    """How much may run at once."""
    # An output lies in the sandbox, in the harvest, in the store and in the evidence, and once between two.
    needed_mib = max(settings.needed_free_mib, 5 * settings.output_mib)
    return Capacity(
        max_parallel_runs=settings.max_parallel_runs,
        needed_free_bytes=needed_mib << 20,
        gpus_per_run=settings.gpus_per_run,
    )


def take_evaluator(appliance: Appliance) -> str:
    """Take the script that measures held-out loss into the store; its root digest there.

    Runs mount the store's copy, so an upgrade in mid-run cannot swap it.
    """
    script = appliance.settings.evaluators_dir / "instruct_text" / EVALUATOR_FILE
    with tempfile.TemporaryDirectory(dir=appliance.home.root, prefix=".preparing-") as scratch:
        try:
            shutil.copyfile(script, Path(scratch) / EVALUATOR_FILE)
        except OSError as error:
            raise HomeError(f"the evaluator cannot be read: {error}") from error
        return appliance.store.put(Path(scratch)).root_sha256
