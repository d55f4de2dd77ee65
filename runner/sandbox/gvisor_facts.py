"""What the two processes really are that stand between a gVisor guest and the host: sentry and gofer.

The facts are the sentry's, which makes the host's system calls for the guest; `mounts` are the gofer's, which
are the guest's files as the host mounted them; what else is the gofer's is below `gofer`.

What is covered: of both, what is measured of any guest's process, the kinds of their open files, their flags.
What is not covered: what gVisor's kernel keeps to itself, such as the sizes of its own memory file systems;
`unenforced` tells of that.
"""

import os
import re
import stat
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.sandbox import cgroup, measure
from runner.sandbox.gvisor_flags import read_flags
from runner.sandbox.gvisor_tree import Tree
from runner.sandbox.walls import Facts, Stage
from runner.spec import Limits, Profile

# runsc, sentry and gofer have threads of their own; below 1024 the sentry dies, whatever the guest does.
OWN_TASKS = 1024
MAX_TASKS = 4_194_304  # the kernel's PID_MAX_LIMIT
_STDIO = re.compile(rb"\0--stdio-fds=([0-9,]+)\0")


def tasks_of(limits: Limits) -> int:
    """How many tasks the control group must have room for, so that the guest's own limit is the one that bites.

    Each process of a guest is one of the host's with up to a thread per processor.
    """
    per_process = 2 + (os.cpu_count() or 1)
    return min(OWN_TASKS + limits.pids * per_process, MAX_TASKS)


def sandbox_facts(tree: Tree, stage: Stage) -> dict[str, Any]:
    """The isolation facts of the guest behind `tree`, as strings, integers, booleans, lists and objects."""
    sentry, gofer = _process(tree.sentry, stage), _process(tree.gofer, stage)
    gofer["cgroup_joined"] = tree.gofer in stage.group.processes()
    del gofer["open_files"]  # many; their kinds are told
    sentry |= {"sentry": {"mounts": sentry["mounts"], "files": sentry.pop("files")}}
    sentry |= {"mounts": gofer.pop("mounts"), "open_files": _handed_files(tree.sentry)}
    return {
        **sentry,
        "platform": sentry["flags"].get("platform", "not told"),
        "cgroup_wanted": {"pids": tasks_of(stage.spec.limits)},
        "gofer": gofer,
    }


def unenforced(facts: Facts, stage: Stage) -> tuple[str, ...]:
    """What is left to gVisor's kernel or to nobody."""
    missing: tuple[str, ...] = ()
    if facts["cgroup"] == "none":
        missing += ("cpu_millis", "memory_bytes: per process only", "pids: by gVisor's kernel only")
    missing += measure.group_remarks(facts)
    for who, seccomp in (("sentry", facts["seccomp"]), ("gofer", facts["gofer"]["seccomp"])):
        if seccomp["sha256_is"] != "measured":
            missing += (f"seccomp filter: the digest of the {who}'s was not measured",)
    sized = "shm_bytes" if stage.spec.profile is Profile.CHAMPION else "shm_bytes and tmp_bytes"
    missing += (
        f"gVisor's kernel alone keeps {sized}, pids, open_files, file_bytes and the guest's own filter",
    )
    if stage.spec.profile is Profile.CHAMPION:
        missing += ("/dev takes files of the guest, up to memory_bytes",)
    return missing


def _process(pid: int, stage: Stage) -> dict[str, Any]:
    facts = measure.process_facts(pid, stage)
    seccomp = facts["seccomp"]
    # The filter is runsc's own: there is none of ours to compare it with, nor to claim instead of it.
    if seccomp["sha256_is"] != "measured":
        seccomp = {**seccomp, "sha256": None, "sha256_is": "not read"}
    facts["seccomp"] = {name: value for name, value in seccomp.items() if name != "wanted_sha256"}
    facts["flags"] = read_flags(Path(f"/proc/{pid}/cmdline").read_bytes())
    facts["files"] = _files(pid)
    return facts


def _files(pid: int) -> dict[str, int]:
    """Open files by kind; `folder` and `device` are the host's."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            kinds[_kind(entry)] += 1
    return dict(sorted(kinds.items()))


def _kind(entry: Path) -> str:
    link = str(entry.readlink())
    if link.startswith("/memfd:"):
        return "memory"
    mode = entry.stat().st_mode
    for kind, matches in (
        ("folder", stat.S_ISDIR),
        ("file", stat.S_ISREG),
        ("pipe", stat.S_ISFIFO),
        ("socket", stat.S_ISSOCK),
        ("null", lambda _: link == "/dev/null"),
        ("device", lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode)),
    ):
        if matches(mode):
            return kind
    return "event"


def _handed_files(sentry: int) -> list[int]:
    """The files that the guest begins with, by the sentry's own command line."""
    match = _STDIO.search(Path(f"/proc/{sentry}/cmdline").read_bytes())
    return list(range(match[1].count(b",") + 1)) if match else []


def allow_tasks(group: cgroup.Group, limits: Limits) -> None:
    """Make room in `group` for sentry and gofer, besides the guest."""
    folder = group.folders.get("pids") or group.folders.get("unified")
    if group.version != "none" and folder is not None:
        (folder / "pids.max").write_text(str(tasks_of(limits)))
