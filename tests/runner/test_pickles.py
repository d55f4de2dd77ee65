"""Pickles are known by name and by content, and nothing else is taken for one."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from runner.pickles import CHUNK_BYTES, holds_pickle, is_pickle_name, is_trainer_state


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "a.PT", "model.pth", "x.pkl", "x.Pickle", "last.ckpt", "training_args.bin", "x.joblib",
        "rng_state_0.pth", "scheduler.pt", "optimizer.safetensors", "OPTIMIZER.bin",
    ],
)  # fmt: skip
def test_names_of_pickles(name: str) -> None:
    assert is_pickle_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "loss.txt",
        "tokenizer.model",
        "trainer_state.json",
        "bin",
        "optimizer",
    ],
)
def test_names_that_are_no_pickles(name: str) -> None:
    assert not is_pickle_name(name)
    assert not is_trainer_state(name)


def held(tmp_path: Path, data: bytes) -> bool:
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as file:
        found = holds_pickle(file.fileno())
        assert file.tell() == 0
    return found


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_finds_pickles_by_their_first_bytes(tmp_path: Path, protocol: int) -> None:
    assert held(tmp_path, pickle.dumps({"a": os.getcwd}, protocol=protocol))


def test_finds_the_pickle_in_an_archive_of_torch_wherever_it_stands(tmp_path: Path) -> None:
    for before in (0, 3 * CHUNK_BYTES):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("weights", bytes(before))
            archive.writestr("archive/data.pkl", pickle.dumps([]))
        assert held(tmp_path, buffer.getvalue())


def test_finds_a_member_across_two_of_the_chunks_that_are_read(tmp_path: Path) -> None:
    assert held(tmp_path, b"PK\x03\x04" + bytes(CHUNK_BYTES - 8) + b"data.pkl" + bytes(CHUNK_BYTES))


def test_other_archives_are_none(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("picture.png", b"png")
    assert not held(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x06", b"{}", b"PK", b"\x89PNG", b"500,1.25"])
def test_other_files_are_none(tmp_path: Path, data: bytes) -> None:
    assert not held(tmp_path, data)


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    body = b'{"__metadata__":{"a":"' + b"x" * (0x0280 - 25) + b'"}}'
    assert struct.pack("<Q", len(body))[:2] == b"\x80\x02"
    assert not held(tmp_path, struct.pack("<Q", len(body)) + body)


@pytest.mark.parametrize("length", [0x470280, 0x5580280])
def test_a_pickle_that_begins_like_such_a_header_is_found(tmp_path: Path, length: int) -> None:
    # A float or a text of zeros, an object's brace in it, and then whatever the pickle likes.
    assert held(tmp_path, struct.pack("<Q", length) + b"{\0\0\0\0cos\nsystem\n.")
