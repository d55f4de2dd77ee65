"""Curves are found in every form that libraries write, and nothing hostile is taken for one."""

import base64
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.loss_files import find_losses, read_loss_txt, read_trainer_state
from runner.losses import (
    MAX_POINTS,
    CurveError,
    Losses,
    LossPoint,
    Points,
    Source,
    StepKind,
    encode_losses,
    is_wanted,
    parse_losses,
    plain_name,
    thin,
    write_losses,
)
from runner.protobuf import fields, messages
from runner.tensorboard import masked_crc32c, read_events
from runner.wandb_run import BLOCK_BYTES, MAX_PARTS, MAX_RECORD_BYTES, read_run

# What tensorboardX 2.6.5 wrote: train/loss 2.5, 2.25, 2.0 at steps 0, 10, 20, and a text.
EVENTS = base64.b64decode(
    "GAAAAAAAAACjf0siCUlaB8yEwNpBGg1icmFpbi5FdmVudDoyQI2zhh4AAAAAAAAA2dwSMgk9+wfMhMDaQSoTChEKCnRyYWluL2xvc3MV"
    "AAAgQA7M2CogAAAAAAAAACntqVAJMDQIzITA2kEQCioTChEKCnRyYWluL2xvc3MVAAAQQC/DepAgAAAAAAAAACntqVAJkTQIzITA2kEQ"
    "FCoTChEKCnRyYWluL2xvc3MVAAAAQPHTmE2cAAAAAAAAAMupXfoJQTUIzITA2kEqkAEKjQEKEWFyZ3MvdGV4dF9zdW1tYXJ5Qm4IBxIE"
    "EgIIAUJk" + "eHh4" * 33 + "eEoICgYKBHRleHTL0bTP"
)  # fmt: skip


def points_of(points: Points) -> list[tuple[int, str, int]]:
    return [(point.step, point.name, point.micros) for point in points.found]


# Messages, records and files, as the libraries write them.


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def event(step: int, tag: str, value: float) -> bytes:
    scalar = field(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)
    return varint(1 << 3 | 1) + struct.pack("<d", 1.0) + field(2, step) + field(5, field(1, scalar))


def tfrecord(data: bytes) -> bytes:
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def history(**values: object) -> bytes:
    items = (
        field(1, field(2, name.replace("__", "/").encode()) + field(16, json.dumps(value).encode()))
        for name, value in values.items()
    )
    return field(1, 7) + field(2, b"".join(items))


def wandb_file(*records: bytes) -> bytes:
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))

    def put(kind: int, part: bytes) -> None:
        out.extend(struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part)

    for whole in records:
        record, first = whole, True
        while True:
            left = BLOCK_BYTES - len(out) % BLOCK_BYTES
            if left < 7:
                out.extend(bytes(left))
                continue
            part, record = record[: left - 7], record[left - 7 :]
            put((1 if not record else 2) if first else (4 if not record else 3), part)
            first = False
            if not record:
                break
    return bytes(out)


def state(*entries: Mapping[str, object]) -> bytes:
    return json.dumps({"global_step": 9, "log_history": list(entries)}).encode()


# Names and values.


@pytest.mark.parametrize(
    ("name", "plain", "wanted"),
    [
        ("loss", "loss", True),
        ("train/loss", "loss", True),
        ("eval/loss", "eval_loss", True),
        ("eval_loss", "eval_loss", True),
        ("rewards/accuracies", "rewards/accuracies", True),
        ("kl", "kl", True),
        ("learning_rate", "learning_rate", False),
        ("glossary", "glossary", False),
        ("loss\x1b[2J", "loss\x1b[2J", False),
        ("loss " + "x" * 80, "loss " + "x" * 80, False),
        ("", "", False),
    ],
)
def test_losses_are_known_by_their_names(name: str, plain: str, wanted: bool) -> None:
    assert (plain_name(name), is_wanted(plain_name(name))) == (plain, wanted)


@pytest.mark.parametrize(
    ("value", "kept", "not_finite"),
    [
        (1.5, [1_500_000], 0), (2, [2_000_000], 0), (-0.0000004, [0], 0), (1e12, [10**18], 0),
        (float("nan"), [], 1), (float("inf"), [], 1), (1e13, [], 1), (10**400, [], 1),
        ("1.5", [], 0), (None, [], 0), (True, [], 0), ([1], [], 0),
    ],
)  # fmt: skip
def test_values_are_integers_of_a_millionth(value: object, kept: list[int], not_finite: int) -> None:
    points = Points()
    points.add("loss", value, step=1)
    assert ([p.micros for p in points.found], points.not_finite) == (kept, not_finite)


@pytest.mark.parametrize("step", [-1, 1 << 54])
def test_steps_are_within_reason(step: int) -> None:
    points = Points()
    points.add("loss", 1.0, step=step)
    assert points.found == []


def test_thinning_keeps_every_name_and_its_last() -> None:
    many = [LossPoint(step=n, name="loss", micros=n) for n in range(10_000)]
    thinned = thin([*many, LossPoint(step=5, name="eval_loss", micros=1)], max_points=100)
    assert len(thinned) <= 102
    assert {p.name for p in thinned} == {"loss", "eval_loss"}
    assert max(p.step for p in thinned) == 9999


def a_curve() -> Losses:
    points = (LossPoint(step=1, name="loss", micros=-5), LossPoint(step=2, name="eval_loss", micros=7))
    return Losses(source=Source.WANDB, steps=StepKind.STEPS, file="a/b", points=points, unreadable=("x: y",))


def test_a_curve_survives_writing_and_reading(tmp_path: Path) -> None:
    assert parse_losses(encode_losses(a_curve())) == a_curve()
    write_losses(tmp_path, a_curve())
    assert [p.name for p in tmp_path.iterdir()] == ["losses.json"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"[" * 100_000])
def test_refuses_what_is_no_curve(data: bytes) -> None:
    with pytest.raises(CurveError, match="malformed"):
        parse_losses(data)


@pytest.mark.parametrize("change", [{"source": "x"}, {"points": [{"step": 1}]}, {"more": 1}])
def test_refuses_a_curve_with_other_fields(change: dict[str, object]) -> None:
    with pytest.raises(CurveError, match="malformed"):
        parse_losses(json.dumps({**json.loads(encode_losses(a_curve())), **change}).encode())


def test_refuses_a_curve_with_fractions() -> None:
    with pytest.raises(CurveError, match="no integer"):
        parse_losses(encode_losses(a_curve()).replace(b'"micros":7', b'"micros":7.5'))


# trainer_state.json


def test_trainer_state_is_read() -> None:
    data = state({"loss": 2.5, "epoch": 0.1, "step": 10}, {"eval_loss": 2.25, "eval_runtime": 3, "step": 20})
    assert points_of(read_trainer_state(data)) == [(10, "loss", 2_500_000), (20, "eval_loss", 2_250_000)]


def test_a_diverged_loss_is_counted() -> None:
    assert read_trainer_state(b'{"log_history": [{"loss": NaN, "step": 1}]}').not_finite == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no log_history"),
        (b'{"log_history": {}}', "no log_history"),
        (b'{"log_history": [7]}', "no step"),
        (b'{"log_history": [{"loss": 1}]}', "no step"),
        (b'{"log_history": [{"loss": 1, "step": "1"}]}', "no step"),
    ],
)
def test_refuses_a_malformed_trainer_state(data: bytes, why: str) -> None:
    with pytest.raises(CurveError, match=why):
        read_trainer_state(data)


# loss.txt


@pytest.mark.parametrize(
    ("data", "points"),
    [
        (b"120,1.25", [(120, "eval_loss", 1_250_000)]),
        (b"120,1.25e-1\n", [(120, "eval_loss", 125_000)]),
        (b"120, 3\n", [(120, "eval_loss", 3_000_000)]),
        (b"120,no_eval", []),
        (b"120,nan", []),
        (b"", []),
    ],
)
def test_loss_txt_is_read(data: bytes, points: list[tuple[int, str, int]]) -> None:
    assert points_of(read_loss_txt(data)) == points


@pytest.mark.parametrize(
    "data", [b"1", b"x,1", b"1,2,3", b"1,1_0", b"-1,2", b"1,\xff", b"1,0x10", b"1,1e9999"]
)
def test_refuses_a_malformed_loss_txt(data: bytes) -> None:
    with pytest.raises(CurveError, match="step,loss"):
        read_loss_txt(data)


def test_refuses_a_large_loss_txt() -> None:
    with pytest.raises(CurveError, match="5000 bytes"):
        read_loss_txt(b"1" * 5000)


# TensorBoard


def test_the_checksum_is_castagnolis() -> None:
    # Source: RFC 3720, B.4: the CRC-32C of 32 zero bytes is 8a9136aa.
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_events_that_a_library_wrote_are_read() -> None:
    wanted = [(0, "loss", 2_500_000), (10, "loss", 2_250_000), (20, "loss", 2_000_000)]
    assert points_of(read_events(EVENTS)) == wanted


def test_scalars_in_tensors_are_read() -> None:
    for floats in (4, 5):
        tensor = field(1, 1) + field(2, b"") + field(floats, struct.pack("<f", 1.5))
        value = field(1, b"eval/loss") + field(8, tensor)
        record = tfrecord(field(2, 3) + field(5, field(1, value)))
        assert points_of(read_events(record)) == [(3, "eval_loss", 1_500_000)]


@pytest.mark.parametrize(
    "tensor",
    [
        field(1, 2) + field(4, struct.pack("<d", 1.5)),
        field(1, 1) + field(4, struct.pack("<ff", 1.5, 2.5)),
        field(1, 1) + field(2, field(2, field(1, 2))) + field(4, struct.pack("<f", 1.5)),
    ],
)
def test_tensors_that_are_no_scalars_are_passed_over(tensor: bytes) -> None:
    value = field(1, b"loss") + field(8, tensor)
    assert read_events(tfrecord(field(5, field(1, value)))).found == []


def test_large_records_are_passed_over() -> None:
    large = b"x" * 20_000
    size = struct.pack("<Q", len(large))
    record = size + struct.pack("<I", masked_crc32c(size)) + large + b"\0\0\0\0"
    assert points_of(read_events(record + tfrecord(event(1, "loss", 1.0)))) == [(1, "loss", 1_000_000)]


def test_a_cut_off_event_file_counts_up_to_there() -> None:
    counts = [len(read_events(EVENTS[:size]).found) for size in range(len(EVENTS) + 1)]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_one_changed_bit_is_found_in_events() -> None:
    for place in range(len(EVENTS)):
        changed = EVENTS[:place] + bytes([EVENTS[place] ^ 1]) + EVENTS[place + 1 :]
        with pytest.raises(CurveError, match="checksum"):
            read_events(changed)


def test_refuses_an_event_that_is_no_message() -> None:
    with pytest.raises(CurveError, match="ends inside a number"):
        read_events(tfrecord(b"\xff"))


# W&B


def test_an_offline_run_is_read() -> None:
    data = wandb_file(
        field(1, 1) + field(17, b"run"),
        history(train__loss=2.5, train__global_step=10, _step=0, _runtime=0.5),
        history(train__loss=2.25, train__global_step=20, _step=1, text="x", nested={"a": 1}),
        history(eval__loss=1.5, _step=2),
        field(1, 2) + field(3, b"summary"),
    )
    wanted = [(10, "loss", 2_500_000), (20, "loss", 2_250_000), (20, "eval_loss", 1_500_000)]
    assert points_of(read_run(data)) == wanted


def test_the_loggers_count_is_the_step_where_the_training_has_none() -> None:
    assert points_of(read_run(wandb_file(history(loss=1, _step=4)))) == [(4, "loss", 1_000_000)]


def test_records_over_several_blocks_are_read() -> None:
    long = field(4, b"x" * 100_000)
    data = wandb_file(long, history(loss=1, _step=4), long, history(loss=2, _step=5))
    assert points_of(read_run(data)) == [(4, "loss", 1_000_000), (5, "loss", 2_000_000)]


@pytest.mark.parametrize("room", range(1, 16))
def test_records_at_the_end_of_a_block_are_read(room: int) -> None:
    filler = field(4, b"x" * (BLOCK_BYTES - 7 - 7 - 4 - room))
    data = wandb_file(filler, history(loss=1, _step=4))
    assert points_of(read_run(data)) == [(4, "loss", 1_000_000)]


def test_a_diverged_run_is_counted() -> None:
    item = field(1, field(1, b"loss") + field(16, b"NaN"))
    assert read_run(wandb_file(field(2, item))).not_finite == 1


def test_a_cut_off_run_counts_up_to_there() -> None:
    data = wandb_file(history(loss=1, _step=1), history(loss=2, _step=2))
    counts = [len(read_run(data[:size]).found) for size in range(7, len(data) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, 1, 2)


def test_one_changed_bit_is_found_in_a_run() -> None:
    data = wandb_file(history(loss=1, _step=1), history(loss=2, _step=2))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = points_of(read_run(changed))
        except CurveError as error:
            assert "checksum" in str(error) or "does not begin" in str(error)
        else:  # a length beyond the end: cut off
            assert found in ([], [(1, "loss", 1_000_000)])


def part(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data


@pytest.mark.parametrize("kinds", [(3,), (4,), (2, 1), (2, 2)])
def test_refuses_parts_out_of_order(kinds: tuple[int, ...]) -> None:
    with pytest.raises(CurveError, match="out of order"):
        read_run(wandb_file() + b"".join(part(kind, b"") for kind in kinds))


def test_refuses_records_without_end() -> None:
    with pytest.raises(CurveError, match="more than 1048576 bytes"):
        read_run(wandb_file(b"x" * (2 << 20)))


@pytest.mark.parametrize("kind", [3, 4])
def test_refuses_an_empty_part_of_a_record(kind: int) -> None:
    with pytest.raises(CurveError, match=f"a part of kind {kind} is empty"):
        read_run(wandb_file() + part(2, b"") + part(kind, b""))


def test_refuses_a_record_of_very_many_parts() -> None:
    data = wandb_file() + part(2, b"x") + part(3, b"x") * MAX_PARTS
    with pytest.raises(CurveError, match=f"or {MAX_PARTS} parts"):
        read_run(data)


def test_a_record_as_large_as_can_be_is_read() -> None:
    filler = field(4, b"x" * (BLOCK_BYTES - 7 - 7 - 4 - 7))  # the next part is an empty first one
    largest = field(4, b"x" * (MAX_RECORD_BYTES - 4))
    assert len(largest) == MAX_RECORD_BYTES
    data = wandb_file(filler, largest, history(loss=1, _step=4))
    assert points_of(read_run(data)) == [(4, "loss", 1_000_000)]


@pytest.mark.parametrize("data", [b"", b":W&B", b"x" * 100])
def test_refuses_what_is_no_run(data: bytes) -> None:
    with pytest.raises(CurveError, match="does not begin"):
        read_run(data)


def test_refuses_history_that_is_no_json() -> None:
    item = field(1, field(1, b"loss") + field(16, b"__import__('os')"))
    with pytest.raises(CurveError, match="no JSON"):
        read_run(wandb_file(field(2, item)))


# Protocol Buffers


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x08", "ends inside a number"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x0a\x05abc", "ends behind its message"),
        (b"\x0a" + varint(1 << 62), "ends behind its message"),
        (b"\x09\x00", "ends behind its message"),
        (b"\x0b", "wire type 3"),
        (b"\x0f", "wire type 7"),
        (b"\x00\x00", "field 0"),
        (varint(1 << 32) + b"\x00", "is no field"),
    ],
)
def test_refuses_malformed_messages(message: bytes, why: str) -> None:
    with pytest.raises(CurveError, match=why):
        list(fields(message))


def test_refuses_a_number_where_a_message_belongs() -> None:
    with pytest.raises(CurveError, match="wire type 0: wanted 2"):
        list(messages(field(2, 5), 2))


def test_fields_are_read_in_their_order() -> None:
    found = [(f.number, f.value) for f in fields(field(1, 300) + field(2, b"ab") + b"\x1d\1\2\3\4")]
    assert found == [(1, 300), (2, b"ab"), (3, b"\1\2\3\4")]


# Files


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


STATE, RUN = state({"loss": 2.0, "step": 1}), wandb_file(history(loss=1, _step=4))
FILES = {
    "model/checkpoint-9/trainer_state.json": (STATE, Source.TRAINER_STATE),
    "wandb_logs/wandb/offline-run-1/run-1.wandb": (RUN, Source.WANDB),
    "runs/now/events.out.tfevents.1.host": (EVENTS, Source.TENSORBOARD),
    "model/loss.txt": (b"9,1.5", Source.LOSS_TXT),
}


@pytest.mark.parametrize("name", FILES)
def test_a_curve_is_found_in_every_form(tmp_path: Path, name: str) -> None:
    data, source = FILES[name]
    put(tmp_path, "model/weights.safetensors", b"loss")
    put(tmp_path, name, data)
    found = find_losses(tmp_path)
    assert found is not None
    assert (found.source, found.file, len(found.points) > 0) == (source, name, True)


def test_the_most_telling_form_is_taken(tmp_path: Path) -> None:
    names = list(FILES)
    for name in reversed(names):
        put(tmp_path, name, FILES[name][0])
        found = find_losses(tmp_path)
        assert found is not None
        assert found.source is FILES[name][1]


def test_the_file_with_the_most_points_is_taken(tmp_path: Path) -> None:
    put(tmp_path, "a/trainer_state.json", STATE)
    put(tmp_path, "b/trainer_state.json", state({"loss": 2.0, "step": 1}, {"loss": 1.0, "step": 2}))
    put(tmp_path, "c/trainer_state.json", STATE)
    found = find_losses(tmp_path)
    assert found is not None
    assert (found.file, len(found.points)) == ("b/trainer_state.json", 2)


def test_an_unreadable_file_is_named_and_the_next_form_taken(tmp_path: Path) -> None:
    put(tmp_path, "trainer_state.json", b"{")
    put(tmp_path, "loss.txt", b"9,1.5")
    found = find_losses(tmp_path)
    assert found is not None
    assert found.source is Source.LOSS_TXT
    assert found.unreadable[0].startswith("trainer_state.json: trainer state is no JSON")


def test_no_curve_is_none(tmp_path: Path) -> None:
    put(tmp_path, "loss.txt", b"9,no_eval")
    assert find_losses(tmp_path) is None


def test_links_and_devices_are_no_curves(tmp_path: Path) -> None:
    put(tmp_path, "real/loss.txt", b"9,1.5")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "loss.txt").symlink_to(tmp_path / "real" / "loss.txt")
    (tmp_path / "out" / "folder").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "out" / "trainer_state.json")
    assert find_losses(tmp_path / "out") is None


def test_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    put(tmp_path, "loss.txt", b"9,1.5")
    with (tmp_path / "trainer_state.json").open("wb") as file:
        file.truncate(1 << 30)
    found = find_losses(tmp_path)
    assert found is not None
    assert "1073741824 bytes: wanted at most 16777216" in found.unreadable[0]


def test_many_files_are_read_up_to_a_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.loss_files.MAX_TOTAL_BYTES", 2 * len(STATE))
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}/trainer_state.json", STATE)
    found = find_losses(tmp_path)
    assert found is not None
    assert found.unreadable == (f"c/trainer_state.json: it has {len(STATE)} bytes: wanted at most 0",)


def test_long_curves_are_capped(tmp_path: Path) -> None:
    put(tmp_path, "trainer_state.json", state(*({"loss": 1, "step": n} for n in range(MAX_POINTS * 2 + 10))))
    found = find_losses(tmp_path)
    assert found is not None
    assert MAX_POINTS // 2 < len(found.points) <= MAX_POINTS
    assert (found.points[0].step, found.points[-1].step) == (0, MAX_POINTS * 2 + 9)
