"""One commit from a remote: by its id only, in bounds, without help from the environment or the remote."""

import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tournament_sync.git_servers import git_daemon, serving
from tests.tournament_sync.https_servers import https_server, make_certificate
from tournament_sync import git_fetch
from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_export import export_commit
from tournament_sync.git_fetch import fetch_commit, url_protocol


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def commit(repository) -> str:
    """A commit in `repository`, which is made fit to be served; no branch leads to it by name."""
    blob = repository.write("blob", random.Random(1).randbytes(100_000))
    commit: str = repository.commit(repository.tree(("100644", b"a", blob)))
    serve(repository.path, commit)
    return commit


def serve(path: Path, commit: str) -> None:
    (path / "refs/heads").mkdir(parents=True)
    (path / "refs/heads/main").write_text(f"{commit}\n")
    (path / "HEAD").write_text("ref: refs/heads/main\n")
    (path / "config").write_text("[core]\nrepositoryformatversion = 0\nbare = true\n")


@pytest.fixture
def remote(repository, tmp_path: Path) -> Iterator[str]:
    with serving(git_daemon(tmp_path)) as port:
        yield f"git://127.0.0.1:{port}/{repository.path.name}"


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://github.com/gradients-opensource/god-text.git", "https"),
        ("https://host.invalid:8443/x", "https"),
        ("ssh://git@host.invalid:22/x.git", "ssh"),
        ("git@host.invalid:org/x.git", "ssh"),
        ("git://host.invalid/x", "git"),
        ("file:///srv/x.git", "file"),
        ("/srv/x.git", "file"),
        ("x.git", "file"),
        ("./with:colon", "file"),
    ],
)
def test_allows_these_ways_to_a_repository(url: str, protocol: str) -> None:
    assert url_protocol(url) == protocol


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ext::sh -c touch% /tmp/x", "has blanks"),
        ("ext::sh", r"begins with 'ext::': git would run a program"),
        ("fd::17", r"begins with 'fd::'"),
        ("https::https://host.invalid", r"begins with 'https::'"),
        ("--upload-pack=touch", "begins with '-' and would be read as an option"),
        ("http://host.invalid/x", "protocol 'http'; allowed are file, git, https, ssh"),
        ("HTTPS://host.invalid/x", "protocol 'HTTPS'; allowed are"),
        ("ftp://host.invalid/x", "protocol 'ftp'"),
        ("https:///x", "names no host"),
        ("ssh://-oProxyCommand=x/y", "names no host"),
        ("ssh://-oProxyCommand=x@host.invalid/y", "a user that would be read as an option"),
        ("https://token@host.invalid/x", "carries a user or password"),
        ("https://user:secret@host.invalid/x", "carries a user or password"),
        ("ssh://git:secret@host.invalid/x", "carries a user or password"),
        ("https://host.invalid:port/x", "URL cannot be read: Port"),
        ("https://[host/x", "URL cannot be read: Invalid IPv6"),
        ("https://host.invalid/\n", "has blanks"),
        ("", "empty, too long, or has blanks"),
        ("https://host.invalid/" + "x" * 2048, "empty, too long, or has blanks"),
    ],
)
def test_refuses_every_other_url(url: str, reason: str, work: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=reason) as caught:
        fetch_commit(url, "a" * 40, work=work)
    assert "secret" not in str(caught.value)
    assert list(work.iterdir()) == []


def test_fetches_the_commit_from_a_server(remote: str, commit: str, work: Path, into: Path) -> None:
    repository = fetch_commit(remote, commit, work=work)
    export_commit(repository, commit, into=into)
    assert (into / "a").read_bytes() == random.Random(1).randbytes(100_000)


def test_fetches_only_the_one_commit(remote: str, repository, commit: str, work: Path) -> None:
    who = "A <a@b.invalid> 0 +0000"
    text = f"tree {repository.tree()}\nparent {commit}\nauthor {who}\ncommitter {who}\n\nchild\n"
    child = repository.write("commit", text.encode())
    (repository.path / "refs/heads/main").write_text(f"{child}\n")
    fetched = fetch_commit(remote, child, work=work)
    command = ["git", f"--git-dir={fetched}", "cat-file", "-e"]
    found = [
        subprocess.run([*command, each], capture_output=True, check=False).returncode == 0
        for each in (child, commit)
    ]
    assert found == [True, False]


def test_a_local_repository_is_read_where_it_lies(repository, commit: str, work: Path) -> None:
    assert fetch_commit(str(repository.path), commit, work=work) == repository.path
    assert fetch_commit(f"file://{repository.path}", commit, work=work) == repository.path
    assert list(work.iterdir()) == []


def test_a_local_work_tree_is_read_through_its_git_folder(tmp_path: Path, work: Path) -> None:
    (tmp_path / "checkout/.git").mkdir(parents=True)
    assert fetch_commit(str(tmp_path / "checkout"), "a" * 40, work=work) == tmp_path / "checkout/.git"


def test_a_branch_name_is_refused_before_anything_is_asked(work: Path) -> None:
    with pytest.raises(TreeError, match="'main' is not a full commit id"):
        fetch_commit("https://host.invalid/x", "main", work=work)


def test_a_commit_that_the_server_has_not_is_refused(remote: str, commit: str, work: Path) -> None:
    with pytest.raises(TreeError, match=f"{remote} has no commit {'b' * 40}, or does not hand it out"):
        fetch_commit(remote, "b" * 40, work=work)


def test_a_server_that_hands_out_branches_only_does_not_hand_out_the_commit(
    repository, commit: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = repository.commit(repository.tree(("100644", b"b", repository.write("blob", b"other"))))
    # The protocol of old servers, which know no wishes for ids.
    monkeypatch.setattr(git_fetch, "_SETTINGS", {**git_fetch._SETTINGS, "protocol.version": "0"})
    with serving(git_daemon(tmp_path)) as port:
        url = f"git://127.0.0.1:{port}/{repository.path.name}"
        with pytest.raises(SourceUnavailableError, match="hands out branches only, no commit by its id"):
            fetch_commit(url, other, work=work)


def test_a_repository_that_is_not_served_is_unavailable(remote: str, work: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"cannot be fetched from: .*access denied"):
        fetch_commit(remote.replace("by-hand", "absent"), "a" * 40, work=work)


def test_a_host_that_refuses_connections_is_unavailable(work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SourceUnavailableError, match=r"cannot be fetched from: .*Connection refused"):
        fetch_commit(f"git://127.0.0.1:{port}/x", "a" * 40, work=work)


def test_a_server_that_never_answers_is_given_up(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_fetch, "FETCH_TIMEOUT_S", 0.2)
    over = threading.Event()
    with serving(lambda _connection: _wait(over)) as port:
        with pytest.raises(SourceUnavailableError, match=r"did not hand over the commit within 0\.2 s"):
            fetch_commit(f"git://127.0.0.1:{port}/x", "a" * 40, work=work)
        over.set()


def test_a_server_that_sends_garbage_is_unavailable(work: Path) -> None:
    with (
        serving(lambda connection: connection.sendall(b"\x1b[2Jgarbage\n" * 100)) as port,
        pytest.raises(SourceUnavailableError, match="cannot be fetched from: ") as caught,
    ):
        fetch_commit(f"git://127.0.0.1:{port}/x", "a" * 40, work=work)
    assert "\x1b" not in str(caught.value)


def test_a_server_that_talks_without_end_is_stopped(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_fetch, "MAX_FETCH_BYTES", 200_000)

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(_packet(b"version 2\n") + _packet(b"fetch=shallow\n") + b"0000")
        connection.recv(4096)
        connection.sendall(_packet(b"packfile\n"))
        while True:
            connection.sendall(_packet(b"\x02" + b"remote talk " * 80 + b"\n"))

    with (
        serving(talk) as port,
        pytest.raises(TreeError, match=r"hands over [0-9]+ bytes or more, the limit is 200000"),
    ):
        fetch_commit(f"git://127.0.0.1:{port}/x", "a" * 40, work=work)


def _wait(event: threading.Event) -> None:
    event.wait()


def _packet(line: bytes) -> bytes:
    return f"{len(line) + 4:04x}".encode() + line


def test_more_than_the_limit_is_stopped_on_the_way(
    remote: str, commit: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_fetch, "MAX_FETCH_BYTES", 50_000)
    with pytest.raises(TreeError, match=r"hands over [0-9]+ bytes or more, the limit is 50000"):
        fetch_commit(remote, commit, work=work)


def test_objects_that_git_finds_malformed_are_refused_on_arrival(
    remote: str, repository, commit: str, work: Path
) -> None:
    evil = repository.tree(("100644", b".git", repository.write("blob", b"x")))
    bad = repository.commit(evil)
    (repository.path / "refs/heads/main").write_text(f"{bad}\n")
    with pytest.raises(TreeError, match=r"sends an object that git refuses: .*hasDotgit"):
        fetch_commit(remote, bad, work=work)


def test_git_is_given_nothing_of_the_environment_but_the_way_to_the_network(
    remote: str, commit: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "was-run"
    (tmp_path / "gitconfig").write_text(
        f'[core]\n\tsshCommand = touch {witness}\n\tgitProxy = "touch {witness}"\n'
        f'[url "ext::touch {witness}"]\n\tinsteadOf = git://\n[credential]\n\thelper = "!touch {witness}"\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_PROXY_COMMAND", f"touch {witness}")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {witness}")
    fetch_commit(remote, commit, work=work)
    assert not witness.exists()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of an authority that this site trusts."""
    path = make_certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return path


def test_fetches_over_https(certificate: Path, repository, commit: str, work: Path, into: Path) -> None:
    with https_server(repository.path.parent, certificate) as base:
        fetched = fetch_commit(f"{base}/{repository.path.name}", commit, work=work)
    export_commit(fetched, commit, into=into)
    assert (into / "a").stat().st_size == 100_000


def test_follows_a_repository_that_moved_within_https(
    certificate: Path, repository, commit: str, work: Path
) -> None:
    with (
        https_server(repository.path.parent, certificate) as home,
        https_server(repository.path.parent, certificate, redirect=home) as base,
    ):
        fetch_commit(f"{base}/{repository.path.name}", commit, work=work)


@pytest.mark.parametrize("elsewhere", ["http", "git", "file", "ftp"])
def test_follows_nobody_to_another_protocol(
    certificate: Path, tmp_path: Path, work: Path, elsewhere: str
) -> None:
    asked: list[bytes] = []
    with (
        serving(lambda connection: asked.append(connection.recv(64))) as port,
        https_server(tmp_path, certificate, redirect=f"{elsewhere}://127.0.0.1:{port}") as base,
        pytest.raises(SourceUnavailableError, match="cannot be fetched from: "),
    ):
        fetch_commit(f"{base}/x.git", "a" * 40, work=work)
    assert asked == []


def test_refuses_a_host_whose_certificate_nobody_vouches_for(
    certificate: Path, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with (
        https_server(tmp_path, certificate) as base,
        pytest.raises(SourceUnavailableError, match=r"cannot be fetched from: .*certificate"),
    ):
        fetch_commit(f"{base}/x.git", "a" * 40, work=work)


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in the place of ssh; what it was told is in the file that is returned."""

    def put(script: str) -> Path:
        told, program = tmp_path / "ssh-was-told", tmp_path / "bin/ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" > {told}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setattr(os, "defpath", f"{program.parent}:{os.defpath}")
        return told

    return put


def test_fetches_over_ssh_without_asking_anybody(
    fake_ssh, repository, commit: str, work: Path, into: Path
) -> None:
    told = fake_ssh('for last; do :; done; eval "exec $last"')
    url = f"ssh://git@host.invalid{repository.path}"
    export_commit(fetch_commit(url, commit, work=work), commit, into=into)
    assert told.read_text().split()[:2] == ["-oBatchMode=yes", "-o"]
    assert (into / "a").stat().st_size == 100_000


def test_no_process_of_a_fetch_can_write_more_than_the_limit(fake_ssh, work: Path) -> None:
    told = fake_ssh('ulimit -f > "$0.limits"; ulimit -c >> "$0.limits"; exit 1')
    with pytest.raises(SourceUnavailableError):
        fetch_commit("ssh://git@host.invalid/x.git", "a" * 40, work=work)
    limits = (told.parent / "bin/ssh.limits").read_text().split()
    assert limits == [str(git_fetch.MAX_FETCH_BYTES // 512), "0"]


def test_a_host_that_wants_a_password_is_unavailable(fake_ssh, work: Path) -> None:
    fake_ssh("echo 'git@host.invalid: Permission denied (publickey).' >&2; exit 255")
    with pytest.raises(SourceUnavailableError, match=r"cannot be fetched from: .*Permission denied"):
        fetch_commit("git@host.invalid:x.git", "a" * 40, work=work)


def test_without_git_the_operator_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")
    with pytest.raises(SourceUnavailableError, match="git is not installed"):
        fetch_commit("git://127.0.0.1:1/x", "a" * 40, work=work)
