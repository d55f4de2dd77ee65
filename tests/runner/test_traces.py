"""What `loss.txt` and the log say, and that no bytes in them can do harm."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.traces import MAX_LINE_BYTES, TraceName, log_traces, loss_trace


def loss(folder: Path, data: bytes) -> tuple[bool, str]:
    (folder / "loss.txt").write_bytes(data)
    trace = loss_trace(folder, is_wanted=True)
    assert trace is not None and trace.name is TraceName.LOSS_FILE
    return trace.is_doubt, trace.detail


@pytest.mark.parametrize("data", [b"500,1.25", b"500,1.25\n", b"1,-0.5", b"12,2.5e-05", b"7,3"])
def test_a_step_and_a_loss_are_no_doubt(tmp_path: Path, data: bytes) -> None:
    assert loss(tmp_path, data) == (False, "loss.txt tells of step {} with a loss of {}".format(
        *data.decode().strip().split(",")))  # fmt: skip


def test_a_champion_that_did_not_evaluate_is_told_and_no_doubt(tmp_path: Path) -> None:
    assert loss(tmp_path, b"500,no_eval") == (
        False,
        "loss.txt tells of step 500, not evaluated by the champion",
    )


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "holds b''; wanted a step, a comma and a loss or no_eval"),
        (b"500", "holds b'500'"),
        (b"500,", "holds b'500,'"),
        (b"-5,1.0", "holds"),
        (b"5,1_0", "holds"),
        (b"5,1.0\n6,1.0", "holds"),
        (b"\xff,1", "holds"),
        (b"0,no_eval", "step 0, before any training"),
        (b"9,nan", "with a loss of nan"),
        (b"9,-inf", "with a loss of -inf"),
        (b"9,1e999", "with a loss of 1e999"),
        (b"1" * 2000, "has more than 1024 bytes"),
    ],
)
def test_a_loss_file_that_tells_no_loss_is_a_doubt(tmp_path: Path, data: bytes, detail: str) -> None:
    is_doubt, found = loss(tmp_path, data)
    assert is_doubt
    assert detail in found


def test_a_missing_loss_file_is_a_doubt_only_where_it_is_wanted(tmp_path: Path) -> None:
    assert loss_trace(tmp_path, is_wanted=False) is None
    missed = loss_trace(tmp_path, is_wanted=True)
    assert missed is not None and missed.is_doubt


@given(data=st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_told_in_one_line_of_text(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("loss")
    assert loss(folder, data)[1].isprintable()
    (folder / "log").write_bytes(data)
    assert all(trace.detail.isprintable() for trace in log_traces(folder / "log"))


def logged(tmp_path: Path, data: bytes) -> list[tuple[TraceName, bool, str]]:
    (tmp_path / "log").write_bytes(data)
    return [(trace.name, trace.is_doubt, trace.detail) for trace in log_traces(tmp_path / "log")]


def test_a_quiet_log_tells_of_no_failure(tmp_path: Path) -> None:
    assert logged(tmp_path, b"step 1\nstep 2\n") == [(TraceName.LOG, False, "the log tells of no failure")]
    assert logged(tmp_path, b"")[0][1] is False


def test_markers_are_counted_and_the_first_is_quoted(tmp_path: Path) -> None:
    found = logged(
        tmp_path,
        b"go\nTraining failed for task a\x1b[2J\npython add_random_noise.py base out\nTraining failed for task b\n",
    )
    assert found == [
        (
            TraceName.TRAINING_FAILED,
            True,
            "in 2 lines of the log, first 'Training failed for task a\\x1b[2J'",
        ),
        (TraceName.NOISE, True, "in 1 line of the log, first 'python add_random_noise.py base out'"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        b"RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
        b"OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_running_out_of_memory_is_told_and_no_doubt(tmp_path: Path, line: bytes) -> None:
    ((name, is_doubt, _),) = logged(tmp_path, line)
    assert (name, is_doubt) == (TraceName.OUT_OF_MEMORY, False)


def test_a_marker_late_in_a_long_line_is_quoted_around(tmp_path: Path) -> None:
    ((_, _, detail),) = logged(
        tmp_path, b"x" * (MAX_LINE_BYTES // 2) + b" Training failed for task 1 " + b"y" * 9999
    )
    assert "Training failed for task 1" in detail
    assert len(detail) < 200


def test_a_log_that_cannot_be_read_is_a_doubt(tmp_path: Path) -> None:
    ((name, is_doubt, detail),) = [(t.name, t.is_doubt, t.detail) for t in log_traces(tmp_path / "none")]
    assert (name, is_doubt, detail) == (
        TraceName.LOG,
        True,
        "the log cannot be read: No such file or directory",
    )
