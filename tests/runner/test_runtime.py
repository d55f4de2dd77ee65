"""The environment that guests see is found and measured file by file."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError
from runner.runtime import locate_runtime, measure_runtime
from runner.sandbox.interpreter import interpreter_parts
from runner.spec import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    files = {
        "prefix/bin/python3.11": "binary",
        "prefix/lib/python3.11/os.py": "import sys",
        "prefix/lib/python3.11/__pycache__/os.cpython-311.pyc": "compiled",
        "prefix/lib/python3.11/site-packages/hidden.py": "of the interpreter",
        "prefix/lib/libpython3.11.so.1.0": "library",
        "prefix/lib/unrelated.so": "not ours",
        "prefix/include/python3.11/patchlevel.h": '#define PY_VERSION "3.11.7"\n',
        "site/torch/__init__.py": "",
        "site/torch-2.13.0+cpu.dist-info/METADATA": "",
        "site/my_package-1.0.dist-info/METADATA": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Runtime(
        python_prefix=str(tmp_path / "prefix"), site_packages=str(tmp_path / "site"), python_version="3.11"
    )


def test_locates_the_running_interpreter() -> None:
    found = locate_runtime()
    assert Path(found.python_prefix, "bin", f"python{found.python_version}").exists()
    assert Path(found.site_packages, "pytest").is_dir()


def test_refuses_an_interpreter_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(SandboxUnavailableError, match="install it into one"):
        locate_runtime()


def test_shows_only_the_interpreters_own_parts(runtime: Runtime) -> None:
    assert sorted(interpreter_parts(runtime)) == [
        "/opt/python/bin/python3.11",
        "/opt/python/include/python3.11",
        "/opt/python/lib/libpython3.11.so.1.0",
        "/opt/python/lib/python3.11",
    ]


def test_measures_what_guests_see(runtime: Runtime) -> None:
    measured = measure_runtime(runtime)
    assert measured.files == 7
    assert measured.python_version == "3.11.7"
    assert measured.packages == (("my-package", "1.0"), ("torch", "2.13.0+cpu"))


def test_the_digest_is_the_same_in_another_place(runtime: Runtime, tmp_path: Path) -> None:
    before = measure_runtime(runtime).sha256
    (tmp_path / "site").rename(tmp_path / "moved")
    assert measure_runtime(replace(runtime, site_packages=str(tmp_path / "moved"))).sha256 == before


@pytest.mark.parametrize("name", ["prefix/bin/python3.11", "site/torch/__init__.py", "site/new.py"])
def test_the_digest_changes_with_any_file(runtime: Runtime, tmp_path: Path, name: str) -> None:
    before = measure_runtime(runtime).sha256
    (tmp_path / name).write_text("changed")
    assert measure_runtime(runtime).sha256 != before


@pytest.mark.parametrize("name", ["prefix/lib/python3.11/__pycache__/x.pyc", "prefix/lib/unrelated.so"])
def test_the_digest_ignores_what_guests_do_not_see_or_python_makes(
    runtime: Runtime, tmp_path: Path, name: str
) -> None:
    before = measure_runtime(runtime).sha256
    (tmp_path / name).write_text("changed")
    assert measure_runtime(runtime).sha256 == before
