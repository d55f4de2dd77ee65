"""The system-call filter as an OCI profile, from the same rules as the BPF of `runner.sandbox.seccomp`.

What is covered: a runtime that builds its filter from this allows exactly the calls that our own BPF allows.
What is not covered: the errno of a refused call. The format has no "else" for a call whose arguments are looked
at, so `clone`, `personality` and `socket` fail with the default ENOSYS; libseccomp compares all 64 bits of an
argument where our BPF compares the low 32, so it refuses a little more.
"""

import errno
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import SandboxUnavailableError

# opencontainers/runtime-spec, config-linux.md, Seccomp
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
ALLOW, REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def load_profile(machine: str | None = None) -> bytes:
    """The profile for `machine` (this host's by default) as podman's `--security-opt seccomp=` reads it.

    Raises SandboxUnavailableError for an architecture that the rules do not know.
    """
    machine = machine or platform.machine()
    here = Path(__file__).parent
    rules = json.loads((here / "seccomp_allowlist.json").read_bytes())
    numbers = json.loads((here / "syscall_numbers.json").read_bytes())
    if machine not in ARCHITECTURES or machine not in rules["architectures"]:
        known = ", ".join(sorted(ARCHITECTURES))
        raise SandboxUnavailableError(
            f"there is no system-call filter for {machine!r}; run the appliance on one of: {known}"
        )
    return json.dumps(profile(rules, numbers[machine], machine=machine), indent=1).encode()


def profile(rules: Mapping[str, Any], numbers: Mapping[str, int], *, machine: str) -> dict[str, Any]:
    """`rules` for `machine` alone; names that the architecture lacks are skipped.

    No second architecture is named: a call of one, x32 on x86_64 included, kills the process.
    """
    syscalls = [_rule(_known(rules["allow"], numbers), ALLOW)]
    for rule in rules["conditional"]:
        if rule["syscall"] in numbers:
            for alternative in rule["allow_if_any"]:
                syscalls.append(_rule([rule["syscall"]], ALLOW, arguments=alternative))
    refused = _rule(_known(rules["deny_eperm"], numbers), REFUSE)
    return {
        "defaultAction": REFUSE,
        "defaultErrnoRet": getattr(errno, rules["default"]),
        "archMap": [{"architecture": ARCHITECTURES[machine], "subArchitectures": []}],
        "syscalls": [*syscalls, {**refused, "errnoRet": errno.EPERM}],
    }


def _known(names: Sequence[str], numbers: Mapping[str, int]) -> list[str]:
    return [name for name in names if name in numbers]


def _rule(
    names: Sequence[str], action: str, *, arguments: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    return {"names": list(names), "action": action, "args": [_argument(one) for one in arguments]}


def _argument(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison; for a masked one the format has the mask in `value` and what is wanted in `valueTwo`."""
    if comparison["op"] == "MASKED_EQ":
        value, value_two = comparison["mask"], comparison["value"]
    else:
        value, value_two = comparison["value"], 0
    return {
        "index": comparison["index"],
        "value": value,
        "valueTwo": value_two,
        "op": f"SCMP_CMP_{comparison['op']}",
    }
