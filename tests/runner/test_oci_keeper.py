"""podman's user namespace: whom it holds, and what is said where it cannot be made."""

import os
from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError
from runner.sandbox import cgroup
from runner.sandbox.identity import POOL_SIZE, Identity
from runner.sandbox.launch import open_pipes
from runner.sandbox.oci_keeper import Program, guest_id_inside, id_map, keeper_id, start_kept
from runner.sandbox.processes import descendants
from runner.sandbox.walls import Stage
from tests.runner.guests import order
from tests.runner.test_oci import needs_root

LAST_ID = 2**32 - 1  # stands for "none" and can never be mapped


def stage(identity: Identity, scratch: Path) -> Stage:
    return Stage(
        spec=order("true"), name="stage", root="/", scratch=scratch, identity=identity,
        group=cgroup.Group(version="none"), program=b"", command=("true",), environment={},
    )  # fmt: skip


def test_root_gives_podman_and_the_guest_an_unused_id_each(tmp_path: Path) -> None:
    staged = stage(Identity(user_id=1_900_000_007, is_own=True), tmp_path)
    assert keeper_id(staged) == 1_900_000_007 + POOL_SIZE  # beside the pool: no guest has it
    assert id_map(staged) == ((0, keeper_id(staged), 1), (1, 1_900_000_007, 1))
    assert guest_id_inside(staged) == 1


def test_an_ordinary_user_has_one_id_to_give(tmp_path: Path) -> None:
    staged = stage(Identity(user_id=1000, is_own=False), tmp_path)
    assert (id_map(staged), guest_id_inside(staged)) == (((0, 1000, 1),), 0)


@pytest.mark.sandbox
@needs_root
def test_an_id_that_this_host_cannot_map_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    staged = stage(Identity(user_id=LAST_ID - POOL_SIZE, is_own=True), tmp_path)
    pipes = open_pipes()
    program = Program(command=("/bin/true",), environment={}, terminals=tmp_path)
    before = descendants(os.getpid())
    with pytest.raises(
        SandboxUnavailableError, match=f"map the user ids up to {LAST_ID} into this container"
    ):
        start_kept(program, staged, pipes=pipes)
    assert descendants(os.getpid()) == before
    pipes.close_theirs()
    pipes.close_ours()
