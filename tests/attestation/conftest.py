"""Fixtures: the pack builder beside this file (importlib mode has no sibling imports) and real vectors."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"attestation_tests_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def packs() -> ModuleType:
    """The module packs.py: builds valid evidence, and evidence wrong in one way."""
    return _load("packs")


@pytest.fixture(scope="session")
def valid_pack(packs: ModuleType) -> dict[str, bytes]:
    """The files of evidence that verifies. Not to be changed: copy it."""
    return packs.build()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Bytes made by other programs."""
    return HERE / "vectors"
