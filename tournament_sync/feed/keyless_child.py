"""The process in which sigstore reads a keyless bundle: it limits itself, verifies, and prints the verdict."""

import json
import os
import sys

from sigstore.hashes import Hashed
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import AllOf, AnyOf, Identity, OIDCIssuer, OIDCIssuerV2
from sigstore_models.common.v1 import HashAlgorithm
from sigstore_models.trustroot.v1 import TrustedRoot as RootModel

from tournament_sync.limited_child import limit

VERIFIED = b"verified"
TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig."
_MAX_REQUEST_BYTES = 8 << 20
_MAX_REASON_CHARS = 500


def main() -> None:
    """Read the request on stdin, write `verified`, or why not, to stdout."""
    request = json.loads(sys.stdin.buffer.read(_MAX_REQUEST_BYTES))
    limit(cpu_s=request["cpu_s"])
    try:
        _verify(**request["keyless"])
        told = VERIFIED
    # The process boundary: a library parses hostile bytes, errors of others come out of it, and all of them are "no".
    except Exception as error:  # noqa: BLE001  see above
        told = f"{type(error).__name__}: {str(error)[:_MAX_REASON_CHARS]}".encode(errors="backslashreplace")
    sys.stdout.buffer.write(told)
    sys.stdout.buffer.flush()
    os._exit(0)


def _verify(*, bundle: str, artifact_sha256: str, trust: str, identity: str, issuer: str) -> None:
    verifier = Verifier(trusted_root=_trusted_root(trust))
    policy = AllOf([AnyOf([OIDCIssuer(issuer), OIDCIssuerV2(issuer)]), Identity(identity=identity)])
    artifact = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(artifact_sha256))
    verifier.verify_artifact(artifact, Bundle.from_json(bundle), policy)


def _trusted_root(trust: str) -> TrustedRoot:
    if str(json.loads(trust).get("mediaType", "")).startswith(TRUST_CONFIG):
        return ClientTrustConfig.from_json(trust).trusted_root
    return TrustedRoot(RootModel.from_json(trust))
