"""Credentials are found by their form and never repeated."""

import time

import pytest

from tournament_sync.inspection.secrets import find_secrets, mask

# Put together here, so that nobody's scanner takes this file for a leak.
RANDOM = "q7Zt2LmXc9VbN4sKdR8yHw1JfP6gTe3UaQ5xB0oI7kYl"
HEX = "3f9a1c7e5b2d8064" * 3


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (f"hf{'_'}{RANDOM[:34]}", "Hugging Face token"),
        *((f"gh{letter}{'_'}{RANDOM[:36]}", "GitHub token") for letter in "pousr"),
        (f"github_pat{'_'}{RANDOM}{RANDOM}", "GitHub token"),
        (f"glpat{'-'}{RANDOM[:20]}", "GitLab token"),
        (f"AKI{'A'}Q7ZT2LMXC4VBN6SK", "AWS access key"),
        (f"ASI{'A'}Q7ZT2LMXC4VBN6SK", "AWS access key"),
        (f"sk{'-'}proj-{RANDOM}", "OpenAI or Anthropic key"),
        (f"sk{'-'}{RANDOM}", "OpenAI or Anthropic key"),
        *((f"xox{letter}{'-'}{RANDOM}", "Slack token") for letter in "baprs"),
        (f"AIz{'a'}{RANDOM[:35]}", "Google key"),
        (f"npm{'_'}{RANDOM[:36]}", "npm token"),
        (f"sk_live{'_'}{RANDOM}", "Stripe key"),
        (f"git clone https://bob:{RANDOM}@x.example/y", "password in a URL"),
        (f"WANDB_API_KEY={HEX[:40]}", "Weights & Biases key"),
        (f"wandb.login(key='{HEX[:40]}')", "Weights & Biases key"),
    ],
)
def test_finds_token_and_masks_it(text: str, title: str) -> None:
    found = list(find_secrets(f"first\nx {text} y\n".encode(), file="a"))
    assert [(each.rule, each.line) for each in found] == [("secret-token", 2)]
    assert title in found[0].found
    masked = mask(f"x {text} y")
    assert title in masked and RANDOM[:20] not in masked and HEX[:20] not in masked


@pytest.mark.parametrize(
    "text",
    [
        "hf_your_token_here_your_token_here_your",
        "hf_" + "x" * 34,
        "hf_hub_download(repo_id=x)",
        "AKIAIOSFODNN7" + "EXAMPLE",
        "task-" + "a" * 50,
        "https://user:password@example",
        "https://x.example/a:b@c",
        f"commit {HEX[:40]}",
        "sk-learn is a library with a very long explanation",
    ],
)
def test_passes_what_is_no_token(text: str) -> None:
    assert not list(find_secrets(text.encode(), file="a"))
    assert mask("nothing to hide: hf_ sk- wandb") == "nothing to hide: hf_ sk- wandb"


@pytest.mark.parametrize(
    "text",
    [
        f'API_KEY = "{RANDOM}"',
        f"'client_secret': '{RANDOM}'",
        f'password: "{RANDOM}"',
        f'token: str = "{RANDOM}"',
    ],
)
def test_finds_random_value_under_the_name_of_a_secret(text: str) -> None:
    (found,) = find_secrets(text.encode(), file="a")
    assert found.rule == "secret-assignment" and RANDOM not in found.found


@pytest.mark.parametrize(
    "text",
    [
        'pad_token = "<|endoftext|>"',
        f'tokenizer_name = "{RANDOM}"',
        f'max_tokens = "{RANDOM}"',
        'api_key = "os.environ.get_the_key_please"',
        'secret_name = "kubernetes-secret-of-the-team-2"',
        'token = "1111111111111111111111111111a"',
        'password = getpass.getpass("your password")',
    ],
)
def test_passes_ordinary_values(text: str) -> None:
    assert not list(find_secrets(text.encode(), file="a"))


def test_finds_private_key_in_every_form() -> None:
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        (found,) = find_secrets(f"\n-----BEGIN {kind}PRIVATE KEY-----".encode(), file="a")
        assert (found.rule, found.line) == ("secret-private-key", 2)


def test_a_list_of_tokens_is_cut() -> None:
    text = "\n".join(f"hf{'_'}{RANDOM[:30]}{n:04d}" for n in range(200))
    assert len(list(find_secrets(text.encode(), file="a"))) == 50


@pytest.mark.parametrize(
    "piece", ["token = ", "password:", "://", "wandb", 'secret="' + "a_" * 90, "hf_aaaa"]
)
def test_repetition_costs_no_more_than_its_length(piece: str) -> None:
    data = (piece * (400_000 // len(piece))).encode()
    started = time.process_time()
    list(find_secrets(data, file="a"))
    assert time.process_time() - started < 5
