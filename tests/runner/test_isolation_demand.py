"""A demand says what must have been measured; what was not told is missing, whatever else was."""

import json
from dataclasses import replace
from typing import Any

import pytest

from runner.errors import SpecError
from runner.isolation_demand import (
    MAX_DEMAND_BYTES,
    MAX_PREFIXES,
    TIERS,
    Demand,
    encode_demand,
    parse_demand,
    read_demand,
    shortfalls,
)

DEMAND = Demand(min_tier=1, forbidden_unenforced=("cpu_millis", "memory_bytes"), needs_measured_filter=True)
FACTS: dict[str, Any] = {
    "driver": "bubblewrap",
    "tier": 1,
    "unenforced": [],
    "seccomp": {"sha256_is": "measured"},
}


def test_walls_that_are_enough_fall_short_in_nothing() -> None:
    assert shortfalls(FACTS, DEMAND) == ()


@pytest.mark.parametrize(("driver", "tier"), TIERS.items())
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_a_tier_is_enough_for_itself_and_lower_ones(driver: str, tier: int, wanted: int) -> None:
    found = shortfalls({**FACTS, "driver": driver, "tier": tier}, replace(DEMAND, min_tier=wanted))
    assert bool(found) == (tier < wanted)
    if found:
        assert found == (f"the walls are {driver}, tier {tier}; wanted tier {wanted} or higher",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tier": 3}, "bubblewrap and call themselves tier 3; it is 1"),
        ({"driver": "fake", "tier": 1}, "fake and call themselves tier 1; it is none"),
        ({"tier": None}, "driver and tier were not told"),
        ({"tier": True}, "driver and tier were not told"),
        ({"driver": None}, "driver and tier were not told"),
        ({"unenforced": ["memory_bytes: per process only"]}, "must not be: memory_bytes: per process only"),
        ({"unenforced": None}, "what this host leaves unenforced was not told"),
        ({"unenforced": [1]}, "what this host leaves unenforced was not told"),
        ({"seccomp": {"sha256_is": "claimed"}}, "filter is claimed; wanted it measured"),
        ({"seccomp": {}}, "filter is not told; wanted it measured"),
        ({"seccomp": None}, "filter is not told; wanted it measured"),
    ],
)
def test_each_shortfall_is_a_sentence(changes: dict[str, Any], told: str) -> None:
    (sentence,) = shortfalls({**FACTS, **changes}, DEMAND)
    assert told in sentence


def test_nothing_told_falls_short_of_everything() -> None:
    assert len(shortfalls({}, DEMAND)) == 3


def test_a_tolerated_remark_is_no_shortfall() -> None:
    told = {**FACTS, "unenforced": ["pids: per user id only"], "seccomp": {"sha256_is": "claimed"}}
    assert shortfalls(told, replace(DEMAND, needs_measured_filter=False)) == ()


def test_remarks_do_not_matter_to_whoever_forbids_none() -> None:
    assert shortfalls({**FACTS, "unenforced": None}, replace(DEMAND, forbidden_unenforced=())) == ()


@pytest.mark.parametrize(
    "demand", [DEMAND, Demand(min_tier=3), Demand(min_tier=2, forbidden_unenforced=("ü",))]
)
def test_a_demand_is_read_back_as_it_was_written(demand: Demand) -> None:
    assert parse_demand(encode_demand(demand)) == demand
    assert encode_demand(parse_demand(encode_demand(demand))) == encode_demand(demand)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"min_tier": 0}, "min_tier is 0"),
        ({"min_tier": 4}, "min_tier is 4"),
        ({"min_tier": True}, "min_tier is True"),
        ({"min_tier": "1"}, "min_tier is '1'"),
        ({"forbidden_unenforced": "cpu"}, "forbidden_unenforced"),
        ({"forbidden_unenforced": ["x"] * (MAX_PREFIXES + 1)}, "at most 32 texts"),
        ({"forbidden_unenforced": [""]}, "no beginning of a remark"),
        ({"forbidden_unenforced": ["a\nb"]}, "no beginning of a remark"),
        ({"forbidden_unenforced": [1]}, "no beginning of a remark"),
        ({"needs_measured_filter": 1}, "wanted true or false"),
        ({"more": 1}, "found .*more"),
    ],
)
def test_refuses_what_is_no_demand(changes: dict[str, Any], told: str) -> None:
    raw = json.loads(encode_demand(DEMAND)) | changes
    with pytest.raises(SpecError, match=told):
        read_demand(raw)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b"[]", "found list"),
        (b" " * (MAX_DEMAND_BYTES + 1), "at most 16384 are read"),
        (encode_demand(DEMAND) + b" ", "not written as we write it"),
        (encode_demand(DEMAND).replace(b"{", b'{"min_tier":3,', 1), "not written as we write it"),
    ],
    ids=["cut", "no text", "deep", "list", "large", "white space", "twice"],
)
def test_refuses_bytes_that_we_would_not_have_written(data: bytes, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse_demand(data)
