"""The stranger's verification: `assay-verify` in an empty network namespace, as a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def verify_command(evidence: Path, *, pin: str) -> list[str]:
    """What a stranger types, without the namespace."""
    return [
        str(Path(sys.executable).parent / "assay-verify"),
        "evidence",
        str(evidence),
        "--trust-sha256",
        pin,
    ]


def without_network(command: list[str]) -> list[str]:
    """`command` in a network namespace of its own, with not even loopback up.

    Root needs no user namespace for that; others do. Both come with util-linux.
    """
    unshare = shutil.which("unshare") or "unshare"
    options = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    return [unshare, *options, "--", *command]


def verify_offline(evidence: Path, *, pin: str) -> subprocess.CompletedProcess[str]:
    """The finished process; exit code 0 means verified."""
    return subprocess.run(
        without_network(verify_command(evidence, pin=pin)), capture_output=True, text=True, check=False
    )
