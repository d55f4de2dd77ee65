"""In which ways the walls of gVisor are weaker than asked: pure rules over the facts of sentry and gofer.

Neither may be root of the host, nor one of its users: the sentry is an id that owns nothing, without any
capability; the gofer is root of a user namespace with three ids, none of which is the host's, and has
capabilities over files of these ids alone.

What is covered: every fact that an order speaks of, and every flag.
What is not covered: what nobody measured; `unenforced` tells of that.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.sandbox.gvisor_facts import tasks_of
from runner.sandbox.gvisor_flags import PLATFORMS, flags_for
from runner.sandbox.gvisor_keeper import NOBODY, id_map, ids
from runner.sandbox.measure import strange_groups
from runner.sandbox.violations import (
    INODE_SLACK,
    SIZE_SLACK_BYTES,
    SIZE_SLACK_PERMILLE,
    group_violations,
)
from runner.sandbox.walls import Facts, Stage, StagedMount
from runner.spec import Profile

# CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SYS_CHROOT
GOFER_CAPABILITIES = 0x4001F


def violations_of(facts: Facts, stage: Stage) -> tuple[str, ...]:
    """Every way in which `facts` are weaker than asked; empty when none is."""
    own = ids(stage)
    found = [
        *_process(facts, "sentry", user_id=own.sentry, maps=[[NOBODY, own.sentry, 1]], capabilities=0),
        *_process(
            facts["gofer"],
            "gofer",
            user_id=own.gofer,
            maps=[list(row) for row in id_map(stage)],
            capabilities=GOFER_CAPABILITIES,
        ),
        *_flags(facts, stage),
        *_sentry(facts, stage),
        *_limits(facts, stage),
        *_mounts(facts["mounts"], stage),
    ]
    return tuple(found)


def _process(facts: Facts, who: str, *, user_id: int, maps: list[list[int]], capabilities: int) -> list[str]:
    found = [
        *_identity(facts, who, user_id=user_id, maps=maps),
        *(
            f"the {who}'s {name} is {value}; wanted at most {capabilities:x}"
            for name, value in facts["capabilities"].items()
            if int(value, 16) & ~capabilities
        ),
        *(
            f"the {who}'s {name} namespace is the host's"
            for name, differs in facts["namespaces"]["own"].items()
            if not differs
        ),
    ]
    mode, filters = facts["seccomp"]["mode"], facts["seccomp"]["filters"]
    if mode != 2 or filters == 0:
        found.append(f"the {who}'s seccomp mode is {mode} with {filters} filters; wanted 2 with a filter")
    if facts["interfaces"] not in ([], ["lo"]) or facts["routes"]:
        found.append(f"the {who} has the network interfaces {facts['interfaces']}; wanted lo alone")
    wrong = {
        f"no_new_privs is not set on the {who}": not facts["no_new_privs"],
        f"the {who}'s oom_score_adj is {facts['oom_score_adj']}; wanted at least 0": facts["oom_score_adj"]
        < 0,
        f"the {who} may leave a core file": facts["limits"].get("core_bytes", -1) != 0,
        f"the {who} was replaced while it was measured": not facts["same_process"],
    }
    return [*found, *(sentence for sentence, is_so in wrong.items() if is_so)]


def _identity(facts: Facts, who: str, *, user_id: int, maps: list[list[int]]) -> list[str]:
    found = []
    for kind in ("uids", "gids"):
        if set(facts[kind]) != {user_id} or user_id == 0:
            found.append(f"the {who}'s {kind} are {facts[kind]}; wanted {user_id} alone")
    if strangers := strange_groups(facts):
        found.append(f"the {who} is left in the groups {strangers}")
    for kind in ("uid_map", "gid_map"):
        if sorted(facts[kind]) != sorted(maps) or any(outside == 0 for _, outside, _ in facts[kind]):
            found.append(f"the {who}'s {kind} is {facts[kind]}; wanted {maps}")
    return found


def _flags(facts: Facts, stage: Stage) -> list[str]:
    found = []
    if facts["platform"] not in PLATFORMS:
        found.append(f"the platform is {facts['platform']}; wanted one of {', '.join(PLATFORMS)}")
    wanted = flags_for(facts["platform"], has_gpus=bool(stage.spec.gpus))
    for who, flags in (("sentry", facts["flags"]), ("gofer", facts["gofer"]["flags"])):
        for name in sorted({*wanted, *flags}):
            if flags.get(name) != wanted.get(name):
                is_, must = flags.get(name, "not set"), wanted.get(name, "not set")
                found.append(f"the {who}'s flag {name} is {is_}; wanted {must}")
    return found


def _sentry(facts: Facts, stage: Stage) -> list[str]:
    """What the sentry holds: it is the part that a guest talks to."""
    found = []
    held = facts["sentry"]["files"]
    allowed_devices = len({node for gpu in stage.spec.gpus for node in gpu.nodes})
    if held.get("folder", 0):
        found.append(f"the sentry holds {held['folder']} folders of the host; wanted none")
    if held.get("device", 0) > allowed_devices:
        found.append(f"the sentry holds {held['device']} devices of the host; wanted {allowed_devices}")
    if facts["open_files"] != [0, 1, 2]:
        found.append(f"open files are {facts['open_files']}; wanted 0, 1 and 2")
    if facts["environment_names"]:
        found.append(f"the sentry's environment has {', '.join(facts['environment_names'])}; wanted none")
    for mount in facts["sentry"]["mounts"]:
        granted = allowed_devices and str(mount["target"]).startswith(("/dev", "/proc", "/sys"))
        if not granted and (mount["target"] != "/" or "ro" not in mount["flags"]):
            found.append(f"the sentry sees {mount['target']}; wanted an empty, read-only root")
    return found


def _limits(facts: Facts, stage: Stage) -> list[str]:
    """The control group's: of its tasks, those of the walls are no matter of the guest's."""
    limits = stage.spec.limits
    widened = replace(stage, spec=replace(stage.spec, limits=replace(limits, pids=tasks_of(limits))))
    found = group_violations(facts, widened)
    if facts["cgroup"] != "none" and not facts["gofer"]["cgroup_joined"]:
        found.append("the gofer is not in the guest's control group")
    return found


def _mounts(mounts: list[Mapping[str, Any]], stage: Stage) -> list[str]:
    """The guest's files as the gofer opens them. Memory file systems are the sentry's own and not here."""
    found = []
    quotas = {m.target: m for m in stage.mounts if m.size_bytes is not None}
    writable = {m.target for m in stage.mounts if m.writable}
    if stage.spec.profile is Profile.CHAMPION:
        root = {"size_bytes": stage.spec.limits.root_bytes, "inodes": stage.spec.limits.root_inodes}
        quotas |= {target: StagedMount(target=target, writable=True, **root) for target in ("/", "/tmp")}  # noqa: S108
        writable |= {"/", "/tmp"}  # noqa: S108
    known = {"/", *quotas, *(m.target for m in stage.mounts)}
    below = tuple(f"{m.target}/" for m in stage.mounts if not m.writable)
    for mount in mounts:
        target, flags = str(mount["target"]), mount["flags"]
        if target not in known and not target.startswith(below):
            found.append(f"{target} is mounted and was not asked for")
        if "ro" not in flags and target not in writable:
            found.append(f"{target} is writable")
        found += [f"{target} is not {flag}" for flag in ("nosuid", "nodev") if flag not in flags]
    for target, quota in quotas.items():
        found += _quota([m for m in mounts if m["target"] == target], quota)
    return found


def _quota(mounts: list[Mapping[str, Any]], quota: StagedMount) -> list[str]:
    if not mounts:
        return [f"{quota.target} is not a mount of its own"]
    assert quota.size_bytes is not None
    found = []
    most = quota.size_bytes + quota.size_bytes * SIZE_SLACK_PERMILLE // 1000 + SIZE_SLACK_BYTES
    most_files = None if quota.inodes is None else quota.inodes + INODE_SLACK
    for mount in mounts:
        if not 0 < mount.get("size_bytes", -1) <= most:
            found.append(f"{quota.target} holds {mount.get('size_bytes', -1)} bytes; wanted at most {most}")
        if most_files is not None and not 0 < mount.get("inodes", -1) <= most_files:
            found.append(f"{quota.target} holds {mount.get('inodes', -1)} files; wanted at most {most_files}")
    return found
