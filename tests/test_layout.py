"""Who owns the import names, what is in the wheels, and that the verifier stands alone."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import attestation

ROOT = Path(__file__).parents[1]
PACKAGES = ("appliance", "attestation", "audit", "runner", "tournament_sync")
NO_PACKAGES = ("benchmarks", "deploy", "docs", "policies", "tests")
UV = ROOT / ".venv" / "bin" / "uv"
BUILD_DEADLINE_S = 120


def project(folder: Path = ROOT) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both distributions, built; by name. Building fetches its back end from the package index."""
    into = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "attestation"):
        command = [str(UV), "build", "--quiet", "--wheel", "--out-dir", str(into), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr
    return {path.name.split("-")[0]: path for path in into.glob("*.whl")}


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.parametrize("name", PACKAGES)
def test_import_name_is_our_folder(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", PACKAGES)
def test_no_stranger_owns_an_import_name(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"assay-appliance", "assay-attestation"}


def test_packages_are_listed_by_name() -> None:
    listed = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    found = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert listed == found == sorted(PACKAGES)
    assert project()["tool"]["mypy"]["packages"] == listed
    assert set(project()["tool"]["importlinter"]["root_packages"]) == set(listed)


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_typed(name: str) -> None:
    assert (ROOT / name / "py.typed").is_file()


@pytest.mark.parametrize("folder", NO_PACKAGES)
def test_folder_is_no_package(folder: str) -> None:
    assert [str(path) for path in (ROOT / folder).rglob("__init__.py")] == []


def test_both_distributions_have_one_version_and_one_command() -> None:
    root, verifier = project(), project(ROOT / "attestation")
    assert root["project"]["dynamic"] == verifier["project"]["dynamic"] == ["version"]
    assert root["tool"]["hatch"]["version"]["path"] == "attestation/__init__.py"
    assert verifier["tool"]["hatch"]["version"]["path"] == "__init__.py"
    command = verifier["project"]["scripts"]["assay-verify"]
    assert root["project"]["scripts"]["assay-verify"] == command


def test_the_verifier_needs_one_package_within_the_bounds_of_the_appliance() -> None:
    needed = project(ROOT / "attestation")["project"]["dependencies"]
    assert len(needed) == 1
    assert needed[0] in project()["project"]["dependencies"]


def test_every_dependency_is_pinned_for_set_up() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    about = project()["project"]
    optional = [name for group in about["optional-dependencies"].values() for name in group]
    for wanted in (*about["dependencies"], *optional):
        name = wanted.split(">")[0].split("[")[0].lower()
        assert name in pinned | {"assay-appliance"}, f"{name} has no line in constraints.txt"


def test_the_appliance_wheel_holds_the_packages_and_nothing_else(wheels: dict[str, Path]) -> None:
    names = names_in(wheels["assay_appliance"])
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert f"assay_appliance-{attestation.__version__}.dist-info/METADATA" in names
    assert not [name for name in names if name.endswith((".md", ".toml", ".pyc"))]


def test_the_verifier_wheel_holds_every_module_and_the_licence(wheels: dict[str, Path]) -> None:
    names = names_in(wheels["assay_attestation"])
    modules = {f"attestation/{path.name}" for path in (ROOT / "attestation").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == modules | {"attestation/py.typed"}
    info = f"assay_attestation-{attestation.__version__}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)


def test_the_verifier_runs_from_its_wheel_alone(wheels: dict[str, Path], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.unpack_archive(wheels["assay_attestation"], alone, format="zip")
    program = (
        "import sys; sys.path = [p for p in sys.path if p != sys.argv[1]]; sys.path.insert(0, sys.argv[2])\n"
        "import attestation; print(attestation.__file__)\n"
        "from attestation.cli import main; main(['--version'])"
    )
    command = [sys.executable, "-I", "-c", program, str(ROOT), str(alone)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.splitlines()[0] == str(alone / "attestation" / "__init__.py"), done.stderr
    assert attestation.__version__ in done.stdout
