"""Which podman builds here: too old is refused, old enough to have known ways out of a build is told.

Covered: the version that podman says. Not covered: what a distribution repaired without a new number; Debian 12
ships 4.3.1. That is why an old one is told and not refused, and why tournament_sync.images.instructions refuses the
instructions that these flaws need, whatever the version.
"""

import re

from tournament_sync.errors import BuildError
from tournament_sync.images.tools import ImageTools, ask

_OLDEST = (4, 3, 0)  # of Debian 12; older ones lack flags, or read them otherwise
_REPAIRED = (5, 3, 2)
_FLAWS = "CVE-2024-1753, CVE-2024-9407, CVE-2024-9675 and CVE-2024-11218"
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+~].{0,60})?", re.ASCII)


def check_podman(tools: ImageTools) -> str | None:
    """What to tell about podman's version, None if nothing. Raises BuildError for one that cannot build."""
    said = ask(tools, "version", "--format", "{{.Client.Version}}", doing="version of podman")
    parts = _VERSION.fullmatch(said)
    if parts is None:
        raise BuildError(f"podman says its version is {said[:80]!r}, wanted three numbers")
    version = tuple(int(part) for part in parts.groups())
    if version < _OLDEST:
        raise BuildError(f"podman {said} is older than {_told(_OLDEST)}, the oldest that builds images here")
    if version < _REPAIRED:
        return (
            f"podman {said} is older than {_told(_REPAIRED)}, which repaired {_FLAWS} (a build that reaches the"
            " host); your distribution may have repaired them too. Assay refuses the instructions that they"
            " need; build on a host that does nothing else"
        )
    return None


def _told(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
