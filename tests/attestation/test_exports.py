"""The package's surface: pinned, and free of anything but the standard library and cryptography."""

import subprocess
import sys

import attestation

PUBLIC = [
    "AttestationError",
    "Expectations",
    "MalformedError",
    "Pack",
    "TrustRoot",
    "UndecidedError",
    "VerificationError",
    "Verified",
    "__version__",
    "parse_trust",
    "read_pack",
    "verify_evidence",
]


def test_public_names_are_pinned_and_there() -> None:
    assert attestation.__all__ == PUBLIC
    for name in PUBLIC:
        assert hasattr(attestation, name)


def test_verifier_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    code = "import sys, attestation.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    known = {*sys.stdlib_module_names, "attestation", "cryptography", "_cffi_backend", "__main__", "cffi"}
    foreign = {name for name in said.stdout.split() if name not in known}
    assert not {name for name in foreign if not name.startswith(("_", "sitecustomize", "apport"))}
    assert not {"socket", "subprocess", "sqlite3", "asyncio", "http"} & set(said.stdout.split())
