"""The audit log: moves events from the outbox into a Merkle tree, signs its head, proves what is in it.

`sequence` is persist, compare-and-swap, sign, publish, in this order, and each part finishes what a crash
left of it. So there is no recovery code: after a crash the next call is the recovery.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from attestation.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.errors import AttestationError
from attestation.keys import NoteSigner
from attestation.merkle import leaf_hash
from attestation.times import format_time
from attestation.tlogproof import ConsistencyProof, TlogProof, encode_consistency, encode_proof
from audit import store
from audit.durable import locked, write_durably
from audit.errors import LogStateError
from audit.tree import Key, Span, consistency_spans, grow, inclusion_spans, nodes_of, span_hash

BATCH_ENTRIES = 1_000  # per transaction: appending singly is fifty times slower
EMPTY_ROOT = sha256().digest()  # RFC 6962, section 2.1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """That an entry is in the log: its index, the proof (C2SP tlog-proof) and the checkpoint it leads to."""

    index: int
    proof: bytes
    checkpoint: bytes


class AuditLog:
    """One append-only log in the database behind `engine`, its newest signed head in `checkpoint_path`.

    Any number of processes may sequence the same log: each batch is one compare-and-swap on the head.
    """

    def __init__(self, engine: Engine, *, origin: str, signer: NoteSigner, checkpoint_path: Path) -> None:
        self._engine = engine
        self._origin = origin
        self._signer = signer
        self._checkpoint_path = checkpoint_path

    def sequence(self, now: datetime) -> int:
        """Drain the outbox, sign the head, publish it; the number of events this call moved.

        Raises LogStateError, before anything is signed, if the database does not contain the published
        log: it was replaced, rolled back or forked.
        """
        self._check_published()
        moved = 0
        while (batch := self._append_batch()) is not None:
            moved += batch
        # Entries without a signed head: as if they still waited in the outbox.
        self._sign_head(now)
        # A signed head that nobody saw: published by the next call.
        self._publish()
        if moved:
            _logger.info("sequenced origin=%s entries=%d", self._origin, moved)
        return moved

    def receipt(self, entry: bytes) -> Receipt | None:
        """Proof for the entry of exactly these bytes; None until it is under a signed head."""
        receipts = self.receipts([entry])
        return receipts[0] if receipts else None

    def receipts(self, entries: Sequence[bytes]) -> tuple[Receipt, ...] | None:
        """Proofs for all `entries` against one and the same checkpoint; None until all are under it."""
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
            if head is None or head.checkpoint is None:
                return None
            found = store.find_indexes(conn, entries, hashes=[leaf_hash(entry) for entry in entries])
            indexes = [index for index in found if index is not None and index < head.signed_size]
            if len(indexes) < len(entries):
                return None
            spans = [inclusion_spans(index, size=head.signed_size) for index in indexes]
            nodes = _nodes(conn, [span for path in spans for span in path])
        return tuple(
            _receipt(index, tuple(span_hash(span, nodes) for span in path), checkpoint=head.checkpoint)
            for index, path in zip(indexes, spans, strict=True)
        )

    def checkpoint(self) -> bytes | None:
        """The newest signed head, a C2SP checkpoint; None while nothing is signed."""
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
        return head.checkpoint if head else None

    def consistency(self, old_size: int, *, to: bytes | None = None) -> bytes:
        """Proof that the log of `old_size` is the beginning of the one of head `to`, by default the newest.

        The form is the body of a witness request (attestation.tlogproof.ConsistencyProof).
        Raises LogStateError if the signed log is shorter, or `old_size` is not positive, AttestationError if
        `to` is no head of this log.
        """
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
            if head is None or head.checkpoint is None or not 0 < old_size <= head.signed_size:
                size = head.signed_size if head else 0
                raise LogStateError(
                    f"no consistency proof from size {old_size}: the signed log has size {size}"
                )
            note = to or head.checkpoint
            size = open_checkpoint(note, vkey=self._signer.vkey).size
            if not old_size <= size <= head.signed_size:
                raise LogStateError(
                    f"no consistency proof from size {old_size} to size {size}: the signed log has"
                    f" size {head.signed_size}"
                )
            spans = consistency_spans(old_size, size=size)
            nodes = _nodes(conn, spans)
        path = tuple(span_hash(span, nodes) for span in spans)
        return encode_consistency(ConsistencyProof(old_size=old_size, path=path, checkpoint_note=note))

    def _check_published(self) -> None:
        published = read_published(self._checkpoint_path, vkey=self._signer.vkey)
        if published is None:
            return
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
            size = head.size if head else 0
            if size < published.size:
                raise LogStateError(
                    f"log {self._origin} has size {size} in the database, but size {published.size} is "
                    f"published in {self._checkpoint_path}"
                )
            root = _root(conn, published.size)
        if root != published.root:
            raise LogStateError(
                f"the first {published.size} entries of log {self._origin} in the database are not those "
                f"published in {self._checkpoint_path}"
            )

    def _append_batch(self) -> int | None:
        """Move one batch; its size, 0 if another process was faster, None if nothing waits."""
        # 1. Load. Nothing is decided here that the swap does not guard.
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
            batch = store.read_pending(conn, limit=BATCH_ENTRIES)
            edge = _nodes(conn, [(0, head.size)]) if head else {}
        if head is None:
            self._create_head()
            return 0
        if not batch:
            return None
        # 2. Hash.
        size = head.size + len(batch)
        leaves = [leaf_hash(pending.entry) for pending in batch]
        new = grow(head.size, leaves, left=edge.__getitem__)
        root = span_hash((0, size), {**edge, **new})
        # 3. Swap first: whoever read the same head and comes later changes no row and starts again.
        with self._engine.begin() as conn:
            has_moved = store.swap_head(conn, head, size=size, root=root)
            if has_moved and store.append(conn, head.size, batch, new_nodes=new) != len(batch):
                raise LogStateError("events left the outbox while they were being sequenced")
        return len(batch) if has_moved else 0

    def _create_head(self) -> None:
        try:
            with self._engine.begin() as conn:
                store.insert_head(conn, self._origin, root=EMPTY_ROOT)
        except IntegrityError:  # another process created it between our look and our insert
            _logger.debug("head exists origin=%s", self._origin)

    def _sign_head(self, now: datetime) -> None:
        with self._engine.begin() as conn:
            head = store.read_head(conn, self._origin)
        if head is None or head.signed_size == head.size:
            return
        # Only a committed head is signed, and the key is not asked inside a transaction: it may be far away.
        note = sign_checkpoint(Checkpoint(origin=head.origin, size=head.size, root=head.root), self._signer)
        with self._engine.begin() as conn:
            store.store_checkpoint(conn, self._origin, size=head.size, checkpoint=note, at=format_time(now))

    def _publish(self) -> None:
        # Under the lock the newest checkpoint is read again, so the file never goes back.
        with locked(self._checkpoint_path):
            newest = self.checkpoint()
            if newest is not None and newest != _read(self._checkpoint_path):
                write_durably(self._checkpoint_path, newest)


def read_published(path: Path, *, vkey: str) -> Checkpoint | None:
    """The checkpoint in `path`, None if there is no file. Raises LogStateError if it is not the log's own."""
    note = _read(path)
    if note is None:
        return None
    try:
        return open_checkpoint(note, vkey=vkey)
    except AttestationError as error:
        raise LogStateError(f"published checkpoint {path}: {error}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _root(conn: Connection, size: int) -> bytes:
    span = (0, size)
    return span_hash(span, _nodes(conn, [span])) if size else EMPTY_ROOT


def _nodes(conn: Connection, spans: Iterable[Span]) -> dict[Key, bytes]:
    """The stored nodes that make up `spans`, all of them. Raises LogStateError."""
    wanted = {key for span in spans for key in nodes_of(span)}
    nodes = store.read_nodes(conn, wanted)
    if missing := wanted - nodes.keys():
        level, index = min(missing)
        raise LogStateError(f"node {level}/{index} of the log is missing from the database")
    return nodes


def _receipt(index: int, path: tuple[bytes, ...], *, checkpoint: bytes) -> Receipt:
    proof = encode_proof(TlogProof(index=index, path=path, checkpoint_note=checkpoint))
    return Receipt(index=index, proof=proof, checkpoint=checkpoint)
