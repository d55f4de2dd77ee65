"""Which parts of the host's Python a guest sees, and where.

What is covered: interpreter, standard library, headers and shared library, each bound by itself, whatever else
lies in the same prefix.
What is not covered: libraries of the operating system; those come with /usr.
"""

import os
from pathlib import Path

from runner.spec import Runtime

PYTHON_TARGET = "/opt/python"
VENV_TARGET = "/opt/venv"


def interpreter_parts(runtime: Runtime) -> dict[str, str]:
    """Path inside the guest → path on the host, for the parts of the interpreter that a guest sees."""
    prefix, name = Path(runtime.python_prefix), f"python{runtime.python_version}"
    parts = {
        f"{PYTHON_TARGET}/bin/{name}": prefix / "bin" / name,
        f"{PYTHON_TARGET}/lib/{name}": prefix / "lib" / name,
        f"{PYTHON_TARGET}/include/{name}": prefix / "include" / name,
    }
    for library in sorted((prefix / "lib").glob(f"lib{name}*.so*")):
        parts[f"{PYTHON_TARGET}/lib/{library.name}"] = library
    return {target: os.path.realpath(source) for target, source in parts.items() if source.exists()}


def base_packages(runtime: Runtime) -> str:
    """Folder of the interpreter's own packages, below /opt/python: hidden from guests, not measured."""
    return f"{PYTHON_TARGET}/lib/python{runtime.python_version}/site-packages"
