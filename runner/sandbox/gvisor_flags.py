"""The flags of runsc: one table, from which it is started and against which sentry and gofer are measured.

What is covered: every flag that parts the guest from the host, stated also where it is runsc's default.
What is not covered: flags that later versions of runsc add; a flag that is not in the table is a violation.
"""

from collections.abc import Mapping

PLATFORMS = ("systrap", "ptrace")  # in this order; never kvm, which can hang where it is virtual itself
FLAGS: Mapping[str, str] = {
    "network": "none",
    "ignore-cgroups": "true",  # ours is around all of it
    "overlay2": "none",  # what a guest writes goes to staged volumes with quotas, not to a file of runsc's
    # The sentry opens no file itself. Measured: matrix products, training and writes take as long; opening
    # many files 1.5 times as long. With it the sentry would hold folders of the host, capabilities, and a
    # wider filter.
    "directfs": "false",
    # Nobody else changes a guest's root while it runs; what the sentry caches of it may be lost with it.
    "file-access": "exclusive",
    # The output is harvested after a SIGKILL too: nothing of it may wait in the sentry.
    "file-access-mounts": "shared",
    "host-uds": "none",
    "host-fifo": "none",
    "net-raw": "false",
    "oci-seccomp": "true",  # the guest's own filter, besides the sentry's
    "allow-flag-override": "false",  # the guest's image has no word in this
}
_OF_THE_RUN = frozenset({"root", "log", "log-fd"})  # paths and numbers of one run, no walls


def flags_for(platform: str, *, has_gpus: bool) -> dict[str, str]:
    """Every flag that runsc is started with, but for those that differ with each run."""
    return {**FLAGS, "platform": platform, **({"nvproxy": "true"} if has_gpus else {})}


def as_arguments(flags: Mapping[str, str]) -> list[str]:
    """`flags` as on a command line."""
    return [f"--{name}={value}" for name, value in flags.items()]


def read_flags(command_line: bytes) -> dict[str, str]:
    """The flags in /proc/PID/cmdline of a sentry or gofer, up to its subcommand."""
    found = {}
    for word in command_line.split(b"\0")[1:]:
        text = word.decode(errors="backslashreplace")
        if not text.startswith("--"):
            break
        name, _, value = text[2:].partition("=")
        if name not in _OF_THE_RUN:
            found[name] = value or "true"
    return found
