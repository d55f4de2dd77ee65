"""What must never show does not, wherever it was cut; what is ordinary stays."""

import base64
import json
import time

import pytest

from runner.errors import SpecError
from runner.scrub import MAX_VALUES, Scrubber

CANARY = "canary-7f3a9b1c-not-a-form"
# Made up, each in the form of its issuer; in two parts, so that no scanner takes this file for a leak.
TOKENS = {
    "hugging face": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "hugging face organisation": "api_org_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "github": "ghp_" + "0123456789abcdefghijklmnopqrstuvwxyz",
    "github fine-grained": "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789",
    "gitlab": "glpat-" + "abcdefghij0123456789",
    "wandb": "wandb_v1_" + "abcdefghijklmnopqrstuvwxyz",
    "aws id": "AKIA" + "IOSFODNN7EXAMPLE",
    "openai": "sk-proj-" + "abcdefghij0123456789abcdefghij",
    "slack": "xoxb-" + "123456789012-abcdefghijkl",
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "nvidia": "nvapi-" + "abcdefghijklmnopqrstuvwxyz0123456789-_abcdef",
    "assay": "assay_" + "A" * 43,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLWJ5dGVz",
}
HEX_KEY = "0123456789abcdef0123456789abcdef01234567"
KEY_BODY = [base64.b64encode(bytes([n]) * 48).decode() for n in range(3)]
KEY = ["-----BEGIN RSA " + "PRIVATE KEY-----", *KEY_BODY, "c2hvcnQ=", "-----END RSA PRIVATE KEY-----"]


def scrubbed(text: str, *values: str) -> str:
    return Scrubber(values=values).scrub(text.encode()).decode()


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("line", ["{}\n", "token={}, next\n", "{{'key': '{}'}}\n", "é {}\n"])
def test_a_token_of_a_known_form_never_shows(token: str, line: str) -> None:
    scrubber = Scrubber()
    shown = scrubber.scrub(line.format(token).encode()).decode()
    assert shown == line.format("[scrubbed]")
    assert scrubber.count == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("https://user:pass@host/x", "https://[scrubbed]@host/x"),
        ("https://:token@host/x", "https://[scrubbed]@host/x"),
        ("Authorization: Bearer abcdefgh.1234", "Authorization: Bearer [scrubbed]"),
        ("WANDB_API_KEY=abcdefghij0123456789", "WANDB_API_KEY=[scrubbed]"),
        ("'HF_TOKEN': 'abcdefghij0123456789'", "'HF_TOKEN': '[scrubbed]'"),
        ("aws_secret_access_key = " + "wJalr/XUtnFEMI+K7MDENG" * 2, "aws_secret_access_key = [scrubbed]"),
        (f"wandb: login --relogin {HEX_KEY}", "wandb: login --relogin [scrubbed]"),
        (f"machine m login user password {HEX_KEY}", "machine m login user password [scrubbed]"),
    ],
)
def test_a_secret_is_known_by_what_stands_before_it(line: str, shown: str) -> None:
    assert scrubbed(line + "\n") == shown + "\n"


@pytest.mark.parametrize(
    "line",
    [
        f"commit {HEX_KEY}",
        f"wandb is off\ncommit {HEX_KEY}",
        "{'loss': 1.25, 'num_tokens': 123456789012345678901234}",
        "pad_token: <|endoftext|>, EOS_TOKEN = '<|im_end|><|im_end|><|im_end|>'",
        "task-abcdefghijklmnopqrstuvwxyz",
        "see https://example.org:8080/a and mail me@example.org",
        "hf_short ghp_short AKIA sk-short eyJhbGci",
        "-----BEGIN CERTIFICATE-----",
        "epoch 3 of 10: 100%|██████████| 10/10",
    ],
)
def test_ordinary_text_stays(line: str) -> None:
    scrubber = Scrubber(values=[CANARY])
    assert scrubber.scrub(f"{line}\n".encode()).decode() == f"{line}\n"
    assert scrubber.count == 0


@pytest.mark.parametrize("split", range(len(KEY)))
def test_a_private_key_never_shows_wherever_it_was_cut(split: int) -> None:
    scrubber = Scrubber()
    text = "".join(f"{line}\n" for line in ["before", *KEY, "after it"]).encode()
    lines = text.splitlines(keepends=True)
    shown = b"".join(scrubber.scrub(b"".join(part)) for part in (lines[: split + 1], lines[split + 1 :]))
    assert shown.decode() == "before\n" + "[scrubbed]\n" * len(KEY) + "after it\n"
    assert scrubber.count == 1


def test_a_private_key_in_one_line_never_shows() -> None:
    assert scrubbed('{"key": "' + "\\n".join(KEY) + '"}\nnext\n') == '{"key": "[scrubbed]\nnext\n'


def test_a_key_without_end_hides_no_ordinary_line() -> None:
    assert scrubbed(f"{KEY[0]}\nloss: 1.25, step 3\nmore\n") == "[scrubbed]\nloss: 1.25, step 3\nmore\n"


def test_the_rest_of_a_key_never_shows_when_its_beginning_was_not_seen() -> None:
    scrubber = Scrubber()
    scrubber.after_gap()
    shown = scrubber.scrub("".join(f"{line}\n" for line in [*KEY[2:], "more"]).encode()).decode()
    assert shown == "[scrubbed]\n" * len(KEY[2:]) + "more\n"


def test_an_ordinary_line_after_a_gap_stays() -> None:
    scrubber = Scrubber()
    scrubber.after_gap()
    assert scrubber.scrub(b"step\nstep\n") == b"step\nstep\n"


@pytest.mark.parametrize(
    "spelling",
    [
        CANARY + "/é+",
        base64.b64encode((CANARY + "/é+").encode()).decode(),
        json.dumps(CANARY + "/é+"),
        CANARY + "%2F%C3%A9%2B",
    ],
)
def test_a_value_never_shows_in_any_spelling(spelling: str) -> None:
    shown = scrubbed(f"x{spelling}y\n", CANARY + "/é+")
    assert CANARY not in shown
    assert base64.b64encode(CANARY.encode()).decode()[:24] not in shown
    assert "[scrubbed]" in shown


def test_a_value_that_holds_another_one_goes_whole() -> None:
    assert scrubbed("secret-longer secret\n", "secret", "secret-longer") == "[scrubbed] [scrubbed]\n"


def test_a_value_of_several_lines_is_found_line_by_line() -> None:
    shown = scrubbed("first-half\nand\nsecond-half\n", "first-half\nx\nsecond-half\n")
    assert shown == "[scrubbed]\nand\n[scrubbed]\n"


@pytest.mark.parametrize("value", ["", "abc", "12345", "x" * 5000])
def test_refuses_values_that_cannot_be_told_from_text(value: str) -> None:
    with pytest.raises(SpecError, match="wanted 6 to 4096"):
        Scrubber(values=[value])


def test_refuses_too_many_values() -> None:
    with pytest.raises(SpecError, match="more than 256"):
        Scrubber(values=[f"secret-{n}" for n in range(MAX_VALUES)])


@pytest.mark.parametrize(
    "part",
    [
        "eyJ",
        "eyJaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
        "://a:",
        "hf_",
        "sk-",
        "wandb",
        "TOKEN=",
        "github_pat_",
    ],
)
def test_hostile_text_takes_no_time(part: str) -> None:
    text = (part * (1 << 18))[: 1 << 18].encode() + b"\n"
    began = time.monotonic()
    Scrubber().scrub(text)
    assert time.monotonic() - began < 1.5
