"""Files are replaced whole."""

from pathlib import Path

from audit.durable import locked, write_durably


def test_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_durably(path, b"old and longer")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"


def test_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    write_durably(tmp_path / "checkpoint", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_overwrites_what_a_crash_left_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.new").write_bytes(b"half a che")
    write_durably(tmp_path / "checkpoint", b"new")
    assert (tmp_path / "checkpoint").read_bytes() == b"new"


def test_lock_can_be_taken_again_after_an_error_inside(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    try:
        with locked(path):
            raise InterruptedError
    except InterruptedError:
        pass
    with locked(path):
        write_durably(path, b"new")
    assert path.read_bytes() == b"new"
