"""Verifies keyless sigstore bundles offline, against a trust root that the site configured.

What is covered: certificate chain, certificate log, identity and issuer, signature over the artifact, and the
entry in the signature log with its proof, signed checkpoint and promise. None of them is optional.
Not covered: whether the log is honest over time; nobody is asked, so a split view is not noticed here.
"""

import tempfile
from pathlib import Path

from attestation import canonical
from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError
from tournament_sync.errors import ReleaseError
from tournament_sync.feed.custom import MAX_KEYLESS_BYTES

try:
    from sigstore.hashes import Hashed
    from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import AllOf, AnyOf, Identity, OIDCIssuer, OIDCIssuerV2
    from sigstore_models.common.v1 import HashAlgorithm
except ImportError:  # the extra "keyless", 29 packages, is for sites that use it
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

MAX_TRUST_BYTES = 1 << 20  # the public instance's root has 7 KB
_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig."


def verify_keyless(bundle: bytes, artifact_sha256: str, *, trust: bytes, identity: str, issuer: str) -> None:
    """Raise ReleaseError unless `identity`, vouched for by `issuer`, signed the artifact and a log has the entry.

    `trust`: a TrustedRoot or ClientTrustConfig in JSON. No network is used, and nothing is left out without it:
    what cannot be checked is refused.
    """
    if not IS_INSTALLED:
        raise ReleaseError("keyless bundle cannot be checked: the extra 'keyless' is not installed")
    if not identity or not issuer:
        raise ReleaseError("keyless bundle cannot be checked: no identity and issuer are configured")
    digest = _checked_forms(bundle, artifact_sha256, trust)
    try:
        verifier = Verifier(trusted_root=_trusted_root(trust))
        policy = AllOf(
            [AnyOf([OIDCIssuer(issuer), OIDCIssuerV2(issuer)]), Identity(identity=identity)],
        )
        artifact = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest)
        verifier.verify_artifact(artifact, Bundle.from_json(bundle), policy)
    # A library parses hostile bytes, and errors of other libraries come out of it: all of them are "no".
    except Exception as error:
        raise ReleaseError(
            f"keyless bundle is refused: {type(error).__name__}: {str(error)[:500]}"
        ) from error


def _checked_forms(bundle: bytes, artifact_sha256: str, trust: bytes) -> bytes:
    """The raw digest; everything has one reading and no more than its size."""
    try:
        canonical.decode(bundle, max_bytes=MAX_KEYLESS_BYTES)
        canonical.decode(trust, max_bytes=MAX_TRUST_BYTES)
        return bytes.fromhex(parse_sha256_hex(artifact_sha256))
    except MalformedError as error:
        raise ReleaseError(f"keyless bundle cannot be checked: {error}") from error


def _trusted_root(trust: bytes) -> "TrustedRoot":
    raw = canonical.decode(trust, max_bytes=MAX_TRUST_BYTES)
    if isinstance(raw, dict) and str(raw.get("mediaType", "")).startswith(_TRUST_CONFIG):
        return ClientTrustConfig.from_json(trust.decode()).trusted_root
    # The library reads a root from a file, and from nothing else.
    with tempfile.TemporaryDirectory(prefix="assay-trust-") as work:
        path = Path(work) / "trusted_root.json"
        path.write_bytes(trust)
        return TrustedRoot.from_file(str(path))
