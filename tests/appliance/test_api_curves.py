"""Curves are parsed once while their files stay as they are, one at a time, and few wait for that."""

import json
import os
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from appliance.api.curves import MAX_KEPT, MAX_WAITING, Curves
from appliance.errors import BusyError
from runner.losses import LOSSES_NAME, CurveError, Losses, LossPoint, Source, StepKind, encode_losses
from runner.sample import FIELDS, METRICS_NAME


def curve(micros: int) -> bytes:
    point = LossPoint(step=1, name="loss", micros=micros)
    found = Losses(source=Source.TRAINER_STATE, steps=StepKind.STEPS, file="x", points=(point,))
    return encode_losses(found)


def write_samples(folder: Path, count: int) -> None:
    values = {**dict.fromkeys(FIELDS, 1), **{name: [7] for name in FIELDS if name.startswith("gpu_")}}
    lines = (json.dumps({**values, "elapsed_ms": n}) + "\n" for n in range(count))
    (folder / METRICS_NAME).write_text("".join(lines))


def test_the_same_files_are_parsed_once(tmp_path: Path) -> None:
    (tmp_path / LOSSES_NAME).write_bytes(curve(1))
    write_samples(tmp_path, 3)
    curves = Curves()
    first = curves.losses(tmp_path), curves.samples(tmp_path, after_ms=-1, points=9)
    again = curves.losses(tmp_path), curves.samples(tmp_path, after_ms=-1, points=9)
    assert (first[0] is again[0], first[1] is again[1]) == (True, True)
    assert curves.samples(tmp_path, after_ms=0, points=9) == first[1][1:]
    assert len(curves.samples(tmp_path, after_ms=-1, points=1)) == 1


@pytest.mark.parametrize("changes", ["size", "time", "file"])
def test_changed_files_are_parsed_again(tmp_path: Path, changes: str) -> None:
    path = tmp_path / LOSSES_NAME
    path.write_bytes(curve(1))
    before = path.stat()
    curves = Curves()
    curves.losses(tmp_path)
    if changes == "file":
        path.rename(tmp_path / "old")
    path.write_bytes(curve(22 if changes == "size" else 2))
    os.utime(path, ns=(0, before.st_mtime_ns + (changes == "time")))
    found = curves.losses(tmp_path)
    assert found is not None
    assert found.points[0].micros == (22 if changes == "size" else 2)


def test_runs_are_not_taken_for_each_other(tmp_path: Path) -> None:
    curves = Curves()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / LOSSES_NAME).write_bytes(curve(1))
    assert curves.losses(tmp_path / "one") is not None
    assert curves.losses(tmp_path / "two") is None
    assert curves.samples(tmp_path / "one", after_ms=-1, points=1) == ()


def test_few_are_kept_and_the_last_asked_for_stay(tmp_path: Path) -> None:
    write_samples(tmp_path, 3)
    curves = Curves()
    first = curves.samples(tmp_path, after_ms=-1, points=100)
    for points in range(1, MAX_KEPT):
        curves.samples(tmp_path, after_ms=-1, points=points)
    assert curves.samples(tmp_path, after_ms=-1, points=100) is first
    second = curves.samples(tmp_path, after_ms=-1, points=2)
    for points in range(200, 200 + MAX_KEPT):
        curves.samples(tmp_path, after_ms=-1, points=points)
    assert curves.samples(tmp_path, after_ms=-1, points=2) is not second


def test_a_curve_that_cannot_be_read_is_never_kept_and_leaves_its_place(tmp_path: Path) -> None:
    (tmp_path / LOSSES_NAME).write_bytes(b"{")
    curves = Curves()
    for _ in range(2 * MAX_WAITING):
        with pytest.raises(CurveError, match="malformed"):
            curves.losses(tmp_path)


def test_one_parses_few_wait_and_the_others_are_told_so(tmp_path: Path) -> None:
    curves, go_on = Curves(), threading.Event()
    parsing: list[str] = []

    def slow() -> tuple[()]:
        parsing.append("begins")
        assert go_on.wait(30)
        parsing.append("ends")
        return ()

    with ThreadPoolExecutor(MAX_WAITING + 1) as pool:
        asked = {pool.submit(lambda key: curves.find(key, slow), n) for n in range(MAX_WAITING + 1)}
        refused, others = wait(asked, timeout=30, return_when=FIRST_COMPLETED)
        go_on.set()
    (one,) = refused
    with pytest.raises(BusyError, match="as many curves as may be are read"):
        one.result()
    assert [other.result() for other in others] == [()] * MAX_WAITING
    assert parsing == ["begins", "ends"] * MAX_WAITING
    assert curves.losses(tmp_path) is None
