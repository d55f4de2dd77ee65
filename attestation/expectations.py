"""What a reader demands of evidence beyond being true of itself."""

from dataclasses import dataclass

from attestation.oms import Manifest
from attestation.tlogproof import ConsistencyProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the evidence must be about: root digests, lower-case hex; None demands nothing.

    `model_files`: the files of a model that the reader holds. `checkpoint`: the newest log head the reader
    has seen, as a note. Evidence under a shorter or another log is refused; evidence under a longer one
    needs `consistency`, else it cannot be decided.
    """

    model_files: Manifest | None = None
    champion: str | None = None
    base_model: str | None = None
    dataset: str | None = None
    policy: str | None = None
    checkpoint: bytes | None = None
    consistency: ConsistencyProof | None = None

    @property
    def roots(self) -> dict[str, str]:
        """The demanded root digests by what they are of."""
        wanted = {
            "champion": self.champion,
            "base model": self.base_model,
            "dataset": self.dataset,
            "policy": self.policy,
        }
        return {name: root for name, root in wanted.items() if root is not None}

    @property
    def is_demanding(self) -> bool:
        """Whether anything is demanded of what the evidence is about."""
        return bool(self.roots) or self.model_files is not None
