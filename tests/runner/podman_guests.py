"""Orders run behind podman's walls, and a podman that does not do as it is told."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from runner.sandbox.held import HeldSandbox
from runner.sandbox.oci import OciWalls
from runner.sandbox.port import Isolation
from runner.spec import SandboxSpec
from tests.runner.guests import Ran

# Replaces one word by another and hands the rest to the real one, also to tell its version.
_DISOBEDIENT = """#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
  word=$1; shift
  case $word in {word}) word={instead} ;; esac
  set -- "$@" "$word"
  left=$((left - 1))
done
exec podman "$@"
"""


class UntriedWalls(OciWalls):
    """Walls whose check was made before, by a test of its own."""

    def check(self) -> str:
        return "untried"

    def version(self) -> str:
        return "untried"


def run_behind_podman(
    spec: SandboxSpec,
    job_dir: Path,
    *,
    walls: OciWalls | None = None,
    should_cancel: Callable[[], bool] = lambda: False,
) -> Ran:
    """Run `spec` behind podman's walls, in the new folder `job_dir`."""
    job_dir.mkdir(parents=True)
    measured: list[Isolation] = []
    ended = HeldSandbox(walls or UntriedWalls()).run(
        spec, job_dir=job_dir, on_measured=measured.append, should_cancel=should_cancel
    )
    return Ran(exit=ended, job_dir=job_dir, isolation=measured)


def disobedient_podman(folder: Path, *, word: str, instead: str) -> str:
    """A podman that hears `instead` wherever it is told `word`, a pattern of the shell."""
    script = folder / "podman"
    script.write_text(_DISOBEDIENT.format(word=word, instead=instead))
    script.chmod(0o755)
    return str(script)


def in_a_child(act: Callable[[], None]) -> None:
    """Run `act` in a process of its own, which may give up rights or change what it sees of the host."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001  the test must not go on in two processes
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "see the child's own words"
