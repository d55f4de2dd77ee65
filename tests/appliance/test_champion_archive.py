"""A champion leaves the store as the archive that it came in, byte for byte, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.champion_archive import EXECUTABLES_FILE, export_champion, keep_commit, pin_of
from appliance.dossier import find_champion
from appliance.errors import ArtifactError, NotFoundError
from appliance.home import open_home
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from tests.appliance.champion_cli import NAME, Site, make_archive, make_site
from tests.appliance.world import PROPOSER, propose
from tournament_sync.errors import TreeError


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A home with one champion, imported from `NAME.champion.tar` beside it."""
    made = make_site(tmp_path)
    archive = make_archive(tmp_path, made.publisher())
    assert made.assay("champions", "import", str(archive), "--as", PROPOSER).exit_code == 0
    keep_commit(open_home(made.home), tmp_path / f"work-{NAME}", manifest_sha256=row_of(made).manifest_sha256)
    return made


def row_of(site: Site, name: str = NAME) -> ChampionRow:
    with site.opened() as appliance, reading(appliance.engine) as conn:
        return find_champion(conn, name)


def kept(site: Site) -> Path:
    return site.home / "commits" / row_of(site).manifest_sha256


def export(site: Site, out: Path) -> Any:
    return site.assay("champions", "export", NAME, "--into", str(out), "-o", "json")


def test_exports_the_archive_that_was_imported_byte_for_byte(site: Site, tmp_path: Path) -> None:
    done = export(site, tmp_path / "out.tar")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / f"{NAME}.champion.tar").read_bytes()
    assert json.loads(done.stdout)["manifest_sha256"] == row_of(site).manifest_sha256
    assert [path.name for path in site.home.glob(".exporting-*")] == []


def test_another_site_takes_it_as_the_same_champion(site: Site, tmp_path: Path) -> None:
    assert export(site, tmp_path / "out.tar").exit_code == 0
    (tmp_path / "there").mkdir()
    there = make_site(tmp_path / "there")
    pem = tmp_path / "feed.pem"
    pem.write_bytes(site.publisher().public_pem)
    trusted = ("people", "trust", "their-feed", "--role", "publisher", "--public-key", str(pem))
    assert there.assay(*trusted, "--valid-from", "2020-01-01T00:00:00Z").exit_code == 0
    assert there.assay("champions", "import", str(tmp_path / "out.tar"), "--as", PROPOSER).exit_code == 0
    here_row, there_row = row_of(site), row_of(there)
    assert (there_row.manifest_sha256, there_row.commit, there_row.tree, there_row.release_bundle) == (
        here_row.manifest_sha256,
        here_row.commit,
        here_row.tree,
        here_row.release_bundle,
    )


def test_writes_over_nothing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_text("mine")
    done = export(site, tmp_path / "out.tar")
    assert (done.exit_code, "give a new file" in done.stderr) == (1, True)
    assert (tmp_path / "out.tar").read_text() == "mine"


def test_nothing_leaves_a_store_that_was_changed(site: Site, tmp_path: Path) -> None:
    script = site.home / "store" / row_of(site).manifest_sha256 / "files" / "run.sh"
    script.chmod(0o644)
    script.write_text("echo changed\n")
    done = export(site, tmp_path / "out.tar")
    assert (done.exit_code, (tmp_path / "out.tar").exists()) == (1, False)
    assert "run.sh" in done.stderr


def test_a_commit_that_was_not_kept_is_told(site: Site, tmp_path: Path) -> None:
    with site.opened() as appliance:
        other = propose(appliance, name="second", note="other", published_at=site.now)
        with pytest.raises(NotFoundError, match="was not kept here; import it again"):
            export_champion(appliance, other, out=tmp_path / "out.tar")


def test_a_kept_commit_that_was_changed_is_not_the_releases(site: Site, tmp_path: Path) -> None:
    (kept(site) / "commit").write_bytes((kept(site) / "commit").read_bytes() + b"\n")
    done = export(site, tmp_path / "out.tar")
    assert (done.exit_code, "was not kept here" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "names", [b"[]", b'["NOTICE"]', b'["../../home.json","run.sh","NOTICE"]', b'{"run.sh":1}', b"[7]"]
)
def test_executables_that_were_changed_give_another_tree_which_is_refused(
    site: Site, tmp_path: Path, names: bytes
) -> None:
    (kept(site) / EXECUTABLES_FILE).write_bytes(names)
    mode = (site.home / "home.json").stat().st_mode
    with site.opened() as appliance, pytest.raises(TreeError, match="the commit has"):
        export_champion(appliance, row_of(site), out=tmp_path / "out.tar")
    assert (site.home / "home.json").stat().st_mode == mode
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize("content", [b"\xff", b'["a","a"', b"[" * 100_000])
def test_executables_that_cannot_be_read_are_told(site: Site, tmp_path: Path, content: bytes) -> None:
    (kept(site) / EXECUTABLES_FILE).write_bytes(content)
    with site.opened() as appliance, pytest.raises(ArtifactError, match="cannot be read"):
        export_champion(appliance, row_of(site), out=tmp_path / "out.tar")


def test_keeping_a_commit_twice_is_no_change(site: Site, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in kept(site).iterdir()}
    keep_commit(open_home(site.home), tmp_path / f"work-{NAME}", manifest_sha256=row_of(site).manifest_sha256)
    assert {path.name: path.read_bytes() for path in kept(site).iterdir()} == before


def test_a_folder_that_is_no_quarantine_keeps_nothing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TreeError, match="lacks its commit"):
        keep_commit(open_home(site.home), tmp_path / "empty", manifest_sha256="0" * 64)
    assert not (site.home / "commits" / ("0" * 64)).exists()


# Images.


def test_an_image_that_the_release_does_not_pin_is_refused(site: Site) -> None:
    with (
        site.opened() as appliance,
        pytest.raises(NotFoundError, match=r"pins no image sha256:000.*pins none"),
    ):
        pin_of(appliance, row_of(site), manifest_sha256="0" * 64)


def test_pins_of_a_release_by_a_stranger_count_for_nothing(site: Site) -> None:
    with site.opened() as appliance:
        strange = propose(appliance, name="strange", note="other", signer="olu", published_at=site.now)
        with pytest.raises(ArtifactError, match="does not verify"):
            pin_of(appliance, strange, manifest_sha256="0" * 64)
