"""Check Assay's evidence offline: what was signed, by whom, and whether it is true."""

from attestation.errors import AttestationError, MalformedError, UndecidedError, VerificationError
from attestation.expectations import Expectations
from attestation.files import read_pack
from attestation.pack import Pack
from attestation.trust import TrustRoot, parse_trust
from attestation.verify import Verified, verify_evidence

__version__ = "0.1.0"

__all__ = [
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
