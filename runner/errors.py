"""Errors of the runner.

RunnerError
├── SandboxUnavailableError   the operator must act: the asked isolation cannot be had on this host
├── SpecError                 the caller must act: the order for a sandbox is malformed
├── HarvestError              the guest's output cannot be taken
└── LauncherError             the place where jobs run cannot be used

"The sandbox is unavailable" is never mixed with "the guest failed": a guest's end is an `Exit`, not an
exception.
"""


class RunnerError(Exception):
    """Base of everything the runner raises on purpose."""


class SandboxUnavailableError(RunnerError):
    """The asked isolation cannot be had here; the message names the reason and the fix."""


class SpecError(RunnerError):
    """The order for a sandbox is malformed."""


class HarvestError(RunnerError):
    """The guest's output cannot be taken."""


class LauncherError(RunnerError):
    """The place where jobs run cannot be used."""
