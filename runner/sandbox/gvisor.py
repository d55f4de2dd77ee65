"""The walls `gvisor`: a guest whose kernel is a program of its own, runsc's sentry, upon the host's kernel.

What is covered: the guest's system calls are answered by the sentry and not by the host's kernel. Sentry, and
the gofer that opens files for it, have no user id of the host, no network, filters of their own, and are
bounded by the guest's control group; the sentry has no capability and no folder of the host.
What is not covered: flaws that let a guest take over the sentry and then pass its filter; GPU drivers, to which
nvproxy hands the guest's calls; timing channels between guests; root on the host.
"""

import errno
import json
import os
import re
import shutil
import signal
from contextlib import suppress

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox import gvisor_facts, gvisor_violations
from runner.sandbox.gvisor_bundle import make_bundle
from runner.sandbox.gvisor_flags import PLATFORMS, as_arguments, flags_for
from runner.sandbox.gvisor_gpus import check_gpus
from runner.sandbox.gvisor_keeper import Commands, ids, start_kept
from runner.sandbox.gvisor_tree import await_tree, find_tree
from runner.sandbox.gvisor_trial import try_walls
from runner.sandbox.held import HeldSandbox
from runner.sandbox.launch import open_pipes, trial
from runner.sandbox.processes import send
from runner.sandbox.walls import Facts, Stage, Started

NAME = "gvisor"
MAX_LOGGED_BYTES = 16 << 10
CONTAINER = "guest"  # its name in a state folder that holds no other
GOFER_ROOT = "/root"  # where the gofer's mount namespace has the guest's root
_VERSION = re.compile(r"runsc version (\S+)")


class GvisorWalls:
    """The walls `gvisor`; see the port for the contract."""

    def __init__(self, runsc: str = "runsc") -> None:
        """`runsc` is a path, or a name to look up in the usual folders."""
        self._runsc = runsc
        self._platform = PLATFORMS[0]

    @property
    def name(self) -> str:
        """See the port."""
        return NAME

    @property
    def mounts_late(self) -> bool:
        """See the port: the gofer's mount namespace takes the inputs."""
        return True

    def check(self) -> str:
        """See the port; takes half a second, as it starts and ends a guest that does nothing."""
        runsc = self._find()
        if os.geteuid() != 0:
            raise SandboxUnavailableError(
                "gVisor needs user ids of its own for each guest, which only root can give; "
                "run the agent as root, or let the policy ask for bubblewrap"
            )
        match = _VERSION.search(trial([runsc, "--version"], identity=None)[1])
        version = match[1] if match else "unknown"
        reasons = []
        for platform in PLATFORMS:
            self._platform = platform
            try:
                try_walls(self.start)
            except SandboxUnavailableError as error:
                reasons.append(str(error))
            else:
                return f"{version} {platform}"
        raise SandboxUnavailableError(explain(reasons[0], version=version))

    def version(self) -> str:
        """See the port."""
        return self.check()

    def start(self, stage: Stage) -> Started:
        """See the port."""
        runsc, gpus = self._find(), stage.spec.gpus
        check_gpus(
            gpus,
            supported_drivers=lambda: trial([runsc, "nvproxy", "list-supported-drivers"], identity=None)[1],
        )
        make_bundle(stage, owner=ids(stage).gofer)
        gvisor_facts.allow_tasks(stage.group, stage.spec.limits)
        flags = as_arguments(flags_for(self._platform, has_gpus=bool(gpus)))
        base = [runsc, f"--root={stage.scratch}/state", f"--log={stage.scratch}/log", *flags]
        commands = Commands(
            run=[*base, "run", f"--bundle={stage.scratch}/bundle", CONTAINER],
            ask_to_end=[*base, "kill", "--all", CONTAINER, "TERM"],
        )
        pipes = open_pipes()
        child = start_kept(commands, stage, pipes=pipes)
        pipes.close_theirs()
        try:
            tree = await_tree(child, pipes.output_read)
        except SandboxUnavailableError as error:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # and with it, by the kernel, all below
            os.waitpid(child, 0)
            pipes.close_ours()
            raise SandboxUnavailableError(f"{error}{_first_logged(stage)}") from error
        return Started(
            child=child,
            first=tree.keeper,
            first_start_time=linux.start_time(tree.keeper),
            gate=tree.sentry,
            release=pipes.release_write,
            output=pipes.output_read,
            walls=frozenset({child, tree.keeper, tree.runsc, tree.sentry, tree.gofer}),
        )

    def input_root(self, started: Started, stage: Stage) -> tuple[int, str]:
        """See the port: the gofer's, below whose root the guest's files are."""
        tree = find_tree(started.child)
        if tree is None:
            raise SandboxUnavailableError("the gofer of the guest is gone")
        return tree.gofer, GOFER_ROOT

    def measure(self, started: Started, stage: Stage) -> Facts:
        """See the port."""
        tree = find_tree(started.child)
        if tree is None or tree.sentry != started.gate:
            raise SandboxUnavailableError("sentry or gofer of the guest are gone")
        return gvisor_facts.sandbox_facts(tree, stage)

    def violations(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        return gvisor_violations.violations_of(facts, stage)

    def unenforced(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        return gvisor_facts.unenforced(facts, stage)

    def ask_to_end(self, started: Started, stage: Stage) -> None:
        """See the port: the keeper has runsc pass it on."""
        send(started.first, signal.SIGTERM)

    def _find(self) -> str:
        found = shutil.which(self._runsc, path="/usr/local/bin:/usr/bin:/bin")
        if found is None:
            raise SandboxUnavailableError(
                f"{self._runsc} is not there; install the operating system's package 'runsc' "
                "(Debian 12: from bookworm-backports)"
            )
        return found


def _first_logged(stage: Stage) -> str:
    """What gofer or sentry wrote down first; without debugging that is why they gave up."""
    with suppress(OSError, ValueError, KeyError):
        logged = (stage.scratch / "log").read_bytes()[:MAX_LOGGED_BYTES].decode(errors="replace")
        return f": {json.JSONDecoder().raw_decode(logged)[0]['msg']}"
    return ""


def GvisorSandbox(runsc: str = "runsc") -> HeldSandbox:  # noqa: N802  a class to its callers
    """The driver `gvisor`."""
    return HeldSandbox(GvisorWalls(runsc))


def explain(said: str, *, version: str) -> str:
    """Why a trial failed and what to do, in one sentence; `said` are runsc's own words."""
    newer = "install a newer one (Debian 12: from bookworm-backports)"
    if "platform" in said and ("unknown" in said or "invalid value" in said):
        return f"runsc {version} is too old, it knows no platform 'systrap'; {newer}"
    if "flag provided but not defined" in said:
        return f"runsc {version} is too old for our flags ({said.splitlines()[0]}); {newer}"
    if "unshare" in said and os.strerror(errno.ENOSPC) in said:
        return "user namespaces are off (user.max_user_namespaces is 0); set it to 10000 with sysctl"
    return f"gVisor cannot make a sandbox here: {said}"
