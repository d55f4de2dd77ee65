"""Whether an order leaves the walls alone, and what every guest finds in its environment.

What is covered: each target has a place of its own, every word is one word for the kernel.
What is not covered: what the words mean to the guest's own programs.
"""

import re

from runner.errors import SpecError
from runner.sandbox.gate import TARGET as GATE_TARGET
from runner.sandbox.interpreter import PYTHON_TARGET, VENV_TARGET, interpreter_parts
from runner.spec import Access, Profile, SandboxSpec

USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_KERNELS = ("/proc", "/dev", "/sys", GATE_TARGET)
_SYSTEM = ("/usr", "/etc", PYTHON_TARGET, VENV_TARGET, *(f"/{link}" for link in USR_LINKS))
_TARGET = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._@+=-]+)+")


def check_layout(spec: SandboxSpec) -> None:
    """Raise SpecError unless every target has a place of its own and every word is one word."""
    if (spec.runtime is None) == (spec.image is None):
        raise SpecError("a guest's root is made of a runtime or of an image: wanted exactly one")
    _check_words(spec)
    _check_access(spec)
    targets = [m.target for m in spec.mounts] + [spec.output_target]
    reserved = (*_KERNELS, *_SYSTEM, "/tmp") if spec.image is None else (*_KERNELS, "/tmp")  # noqa: S108
    for target in targets:
        if not _TARGET.fullmatch(target):
            raise SpecError(f"mount target {target!r} is not a plain absolute path")
        for taken in reserved:
            if nested(target, taken):
                raise SpecError(f"mount target {target} meets {taken}, which is the sandbox's own")
    for index, target in enumerate(targets):
        for other in targets[index + 1 :]:
            if nested(target, other):
                raise SpecError(f"mount targets {target} and {other} lie in one another")
    for folder in spec.output_folders:
        if not _TARGET.fullmatch(f"/{folder}"):
            raise SpecError(f"output folder {folder!r} is not a plain relative path")


def guest_environment(spec: SandboxSpec) -> dict[str, str]:
    """Every variable that the guest sees; the order's own come last."""
    own = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root" if spec.profile is Profile.CHAMPION else "/tmp",  # noqa: S108  the guest's own
        "LANG": "C.UTF-8",
    }
    if spec.runtime is not None:
        own |= {"PATH": f"{VENV_TARGET}/bin:/usr/bin:/bin", "VIRTUAL_ENV": VENV_TARGET}
        if any(".so" in target for target in interpreter_parts(spec.runtime)):
            own["LD_LIBRARY_PATH"] = f"{PYTHON_TARGET}/lib"  # a shared libpython, built for another prefix
    return {**own, **spec.env}


def nested(one: str, other: str) -> bool:
    """Whether one path is the other or lies in it."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _check_access(spec: SandboxSpec) -> None:
    for mount in spec.mounts:
        if mount.access is Access.COPY and spec.profile is not Profile.CHAMPION:
            raise SpecError(f"{mount.target} may be changed, but a strict guest has no place for changes")


def _check_words(spec: SandboxSpec) -> None:
    for word in (*spec.argv, spec.cwd, *spec.env, *spec.env.values(), *(m.source for m in spec.mounts)):
        if "\0" in word:
            raise SpecError(f"{word!r} holds a NUL, which would end the word for the kernel")
    for name in spec.env:
        if not name or "=" in name:
            raise SpecError(f"{name!r} is no name of a variable")
    if not spec.argv:
        raise SpecError("there is no command to run")
