"""A champion as the archive that travels, made from the store; and the images that its release pins.

The store keeps contents by SHA-256 and nothing that git alone knows. So its commit and which of its files are
executable are kept beside (HOME/commits/<manifest>/), when it is taken in. They are not trusted: an archive is
written only if they give the very commit and tree of the signed release.
"""

import shutil
import tempfile
from pathlib import Path

from appliance.approvals import claimed
from appliance.assembly import Appliance
from appliance.errors import ArtifactError, ConflictError, NotFoundError
from appliance.home import Home
from appliance.store.champions import ChampionRow
from attestation import canonical
from attestation.claims import Kind
from attestation.errors import AttestationError, MalformedError
from audit.durable import fsync_folder, write_durably
from tournament_sync.archive import write_archive
from tournament_sync.champion import ImagePin
from tournament_sync.git_commit import commit_object
from tournament_sync.git_objects import MAX_COMMIT_BYTES, object_id
from tournament_sync.quarantine import COMMIT_FILE, TREE_FOLDER, read_commit, write_links
from tournament_sync.release import claimed_links
from tournament_sync.tree_files import survey

EXECUTABLES_FILE = "executables.json"
MAX_EXECUTABLES_BYTES = 32 << 20


def keep_commit(home: Home, quarantine: Path, *, manifest_sha256: str) -> None:
    """Keep what only git knows of the champion in that quarantine folder; the same again is no change.

    Raises RefusedError for what is no quarantine folder.
    """
    folder = _folder(home, manifest_sha256)
    raw = read_commit(quarantine)
    stamps = survey(quarantine / TREE_FOLDER)
    executables = [name for name, stamp in stamps.items() if stamp.is_executable]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / EXECUTABLES_FILE, canonical.encode(executables))
    write_durably(folder / COMMIT_FILE, raw)
    fsync_folder(folder)


def export_champion(appliance: Appliance, champion: ChampionRow, *, out: Path) -> str:
    """Write `champion` with its release as the archive `out`, a new file; the archive's SHA-256.

    Raises ArtifactError if its files are not those of the release, NotFoundError if its commit was not kept,
    ConflictError if `out` exists, RefusedError.
    """
    if out.exists():
        raise ConflictError(f"{out} exists; give a new file")
    manifest = champion.manifest_sha256
    appliance.store.verify(manifest)
    raw, executables = _kept(appliance.home, champion)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=appliance.home.root) as scratch:
        tree = Path(scratch) / TREE_FOLDER
        shutil.copytree(appliance.store.path(manifest), tree)
        for name in {file.name for file in appliance.store.manifest(manifest).files} & executables:
            (tree / name).chmod(0o555)
        (Path(scratch) / COMMIT_FILE).write_bytes(raw)
        write_links(Path(scratch), claimed_links(champion.release_bundle))
        return write_archive(Path(scratch), champion.release_bundle, out=out)


def pin_of(appliance: Appliance, champion: ChampionRow, *, manifest_sha256: str) -> ImagePin:
    """The pin of the image with that manifest, from the release as a publisher of the trust root signed it.

    Raises ArtifactError for a release that does not verify, NotFoundError for an image that it does not pin.
    """
    trust, now = appliance.home.trust(), appliance.clock.now()
    try:
        statement, _ = claimed(champion.release_bundle, trust, kind=Kind.CHAMPION_RELEASE, now=now)
    except AttestationError as error:
        raise ArtifactError(f"the release of {champion.name} does not verify: {error}") from error
    pinned = statement.predicate["images"]
    for image in pinned:
        if image["manifest"]["sha256"] == manifest_sha256:
            return ImagePin(
                dockerfile=image["dockerfile"],
                manifest=manifest_sha256,
                archive=image["archive"]["sha256"],
                inventory=image["inventory"]["sha256"],
            )
    wanted = ", ".join(f"sha256:{image['manifest']['sha256']}" for image in pinned) or "none"
    raise NotFoundError(f"{champion.name} pins no image sha256:{manifest_sha256}; it pins {wanted}")


def _kept(home: Home, champion: ChampionRow) -> tuple[bytes, frozenset[str]]:
    folder = _folder(home, champion.manifest_sha256)
    try:
        raw = _read(folder / COMMIT_FILE, limit=MAX_COMMIT_BYTES)
        names = canonical.decode(
            _read(folder / EXECUTABLES_FILE, limit=MAX_EXECUTABLES_BYTES), max_bytes=MAX_EXECUTABLES_BYTES
        )
    except FileNotFoundError:
        # One that was committed here, from a plain tree, has the one commit of that tree.
        raw, names = commit_object(champion.tree), []
    except (OSError, MalformedError) as error:
        raise ArtifactError(f"what was kept of {champion.name}'s commit cannot be read: {error}") from error
    if object_id("commit", raw) != champion.commit:
        raise NotFoundError(
            f"the commit {champion.commit} of {champion.name} was not kept here; import it again to export it"
        )
    # Whatever else the file holds names no file of the tree; the tree id decides.
    listed = names if isinstance(names, list) else []
    return raw, frozenset(name for name in listed if isinstance(name, str))


def _read(path: Path, *, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)


def _folder(home: Home, manifest_sha256: str) -> Path:
    return home.root / "commits" / manifest_sha256
