"""Upstream's licence rule: LICENSE and NOTICE are the project's, line by line after white space is cut off.

Source: Gradients-on-Demand, validator/tournament/github_validation.py. Gradients.io (https://gradients.io).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attestation.digest import sha256_hex
from tournament_sync.errors import LicenceError

# Upstream's names in upstream's order: the first that exists is the one that counts.
LICENCE_NAMES = ("LICENSE.md", "LICENSE", "license.md", "license", "License.md", "License")
NOTICE_NAMES = ("NOTICE", "NOTICE.txt", "notice.txt", "Notice.txt", "notice", "Notice")

APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # as Apache publishes it
UPSTREAM_LICENCE_SHA256 = (
    "6ad6353ec71a92944b5e97adc783c01564044eee65e628a04efc8505db9506f8"  # upstream's copy
)
UPSTREAM_NOTICE_SHA256 = "3e316950fc1bc25c91a74614fa6ceb57e0ff14e20cf518fcc2628ee5f780469e"

_ACCEPTED_LICENCES = frozenset({APACHE_2_SHA256, UPSTREAM_LICENCE_SHA256})
_ACCEPTED_NOTICES = frozenset({UPSTREAM_NOTICE_SHA256})
_MAX_TEXT_BYTES = 64 << 10  # the Apache licence has 11 KB


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Digests of the normalised texts."""

    licence_sha256: str
    notice_sha256: str


def read_licence(folder: Path) -> Licence:
    """The licence of the repository in `folder`. Raises LicenceError if it is absent or another."""
    return Licence(
        licence_sha256=_text_digest(folder, LICENCE_NAMES, accepted=_ACCEPTED_LICENCES),
        notice_sha256=_text_digest(folder, NOTICE_NAMES, accepted=_ACCEPTED_NOTICES),
    )


def normalised(text: str) -> bytes:
    """`text` with trailing white space cut off each line, every line ended by LF."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines()).encode()


def _text_digest(folder: Path, names: Sequence[str], *, accepted: frozenset[str]) -> str:
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise LicenceError(f"the repository has no {names[0]} (looked for {', '.join(names)})")
    if (size := path.stat().st_size) > _MAX_TEXT_BYTES:
        raise LicenceError(f"{path.name} of {size} bytes is over the limit of {_MAX_TEXT_BYTES}")
    try:
        digest = sha256_hex(normalised(path.read_bytes().decode()))
    except UnicodeDecodeError as error:
        raise LicenceError(f"{path.name} is not UTF-8 text") from error
    if digest not in accepted:
        raise LicenceError(
            f"{path.name} is not the text that champions are published under: "
            f"normalised sha256 {digest}, wanted {' or '.join(sorted(accepted))}"
        )
    return digest
