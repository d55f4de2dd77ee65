"""What must have been tried, and what may stand in an environment, for the screen to call a wall held."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from appliance.measured_facts import Facts, fact, listed

# Set by the shipped environment or by the driver, whatever was ordered.
ADDED_VARIABLES: Final = frozenset(
    {
        *("HOME", "HOSTNAME", "LANG", "LD_LIBRARY_PATH", "PATH", "PWD", "SHLVL", "VIRTUAL_ENV"),
        *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_CTK_LIBCUDA_DIR"),
    }
)
# Parts of names of variables that hold secrets; the exception is a public key's name in images of Python.
_SECRET_PARTS: Final = frozenset(
    {"CREDENTIAL", "CREDENTIALS", "KEY", "PASSWD", "PASSWORD", "SECRET", "TOKEN", "APIKEY"}
)
_NO_SECRETS: Final = frozenset({"GPG_KEY"})
_UNTRIED: Final = ("/busybox-gate", "/dev", "/etc", "/proc", "/run", "/sys")  # files, or the kernel's


def strange_variables(names: Iterable[object], *, asked: frozenset[str] | None) -> list[str]:
    """Variables that nobody asked for; of unknown orders, those that are named like secrets."""
    found = set(map(str, names))
    if asked is not None:
        return sorted(found - asked - ADDED_VARIABLES)
    return sorted(n for n in found - _NO_SECRETS if _SECRET_PARTS & set(n.upper().split("_")))


def untried_writes(facts: Facts, table: Sequence[Mapping[str, Any]], tries: Mapping[str, Any]) -> list[str]:
    """Read-only folders to which no write was tried, as far as a mount tells that it is a folder."""
    missing = ["/"] if fact(facts, "profile") != "champion" and "/" not in tries else []
    if listed(fact(facts, "gpus")):  # their driver's files are mounted one by one
        return missing
    for mount in table:
        target = str(mount["target"])
        is_file = "." in target.rpartition("/")[2]
        is_covered = any(target == tried or target.startswith(f"{tried}/") for tried in tries)
        is_exempt = target == "/" or any(target == one or target.startswith(f"{one}/") for one in _UNTRIED)
        if "ro" in mount["flags"] and not (is_file or is_covered or is_exempt):
            missing.append(target)
    return missing
