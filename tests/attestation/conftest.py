"""Fixtures: the pack builder beside this file (importlib mode has no sibling imports) and real vectors."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attestation.expectations import Expectations
from attestation.pack import pack_of
from attestation.verify import Verified, verify_evidence

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
    files: dict[str, bytes] = packs.build()
    return files


@pytest.fixture
def check(packs: ModuleType) -> Callable[..., Verified]:
    """The whole check of files in memory, under the pack's own pin unless told otherwise."""

    def run(files: Mapping[str, bytes], **options: Any) -> Verified:
        options = {"trust": packs.pin(), "expected": Expectations(), "now": packs.NOW, **options}
        return verify_evidence(pack_of(files), **options)

    return run


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Bytes made by other programs."""
    return HERE / "vectors"
