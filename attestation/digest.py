"""SHA-256, the only digest of this package, in its one written form: 64 lower-case hexadecimal digits."""

import hashlib
import re
from collections.abc import Mapping

from attestation.errors import MalformedError

_SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def parse_sha256_hex(text: object) -> str:
    """`text`, if it is the written form of a SHA-256. Raises MalformedError for anything else."""
    if not isinstance(text, str) or not _SHA256_HEX.fullmatch(text):
        raise MalformedError(f"expected 64 lower-case hexadecimal digits, found {str(text)[:80]!r}")
    return text


def folder_sha256(digests: Mapping[str, str]) -> str:
    """One digest for a folder, given file name → SHA-256, that anybody can recompute with coreutils.

    Inside the folder, plain names given:
    `find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum`
    """
    names = sorted(digests, key=str.encode)
    return sha256_hex("".join(f"{digests[name]}  {name}\n" for name in names).encode())
