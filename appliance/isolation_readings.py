"""Mounts, tries, counters and bounds, read out of what was measured for the judging of walls."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.measured_facts import Facts, Row, amount, fact, shown
from runner.sandbox.cgroup import CPU_PERIOD_US

_REFUSED: Final = "refused"


def is_mount(value: object) -> bool:
    """Whether `value` tells a mount."""
    return isinstance(fact(value, "target"), str) and isinstance(fact(value, "flags"), list)


def is_of_kernel(mount: Facts) -> bool:
    """Whether the kernel makes up what is there, so that no file of anybody's lies in it."""
    target = str(mount["target"])
    if target == "/dev/shm":  # noqa: S108  the guest's own
        return False
    return any(target == top or target.startswith(f"{top}/") for top in ("/dev", "/proc", "/sys"))


def mount_row(mount: Facts) -> Row:
    """A mount for the screen."""
    if "ro" in mount["flags"]:
        return Row(name=shown(mount["target"]), value="read-only")
    room = amount("bytes", fact(mount, "size_bytes"))
    return Row(
        name=str(mount["target"]), value=f"writable, room {room}, files {shown(fact(mount, 'inodes'))}"
    )


def not_refused(tries: object) -> list[str]:
    """The tries that did something, or of which nobody knows."""
    if not isinstance(tries, Mapping):
        return []
    return sorted(shown(name) for name, result in tries.items() if result != _REFUSED)


def bytes_out(counters: object) -> int:
    """Bytes that went over anything but the guest's own loopback."""
    if not isinstance(counters, Mapping):
        return 0
    strangers: Sequence[Any] = [numbers for name, numbers in counters.items() if name != "lo"]
    return sum(
        number
        for numbers in strangers
        if isinstance(numbers, Mapping)
        for number in numbers.values()
        if type(number) is int
    )


def bounds(group: object) -> list[object]:
    """Memory, processes, and processor time per 100 ms: a number, or, on v2, "quota period"."""
    processor = fact(group, "cpu_quota_us")
    words = str(fact(group, "cpu_quota_and_period_us")).split(" ")
    if processor is None and len(words) == 2 and all(word.isdecimal() for word in words):
        processor = int(words[0]) * CPU_PERIOD_US // max(int(words[1]), 1)
    return [fact(group, "memory_bytes"), fact(group, "pids"), processor]
