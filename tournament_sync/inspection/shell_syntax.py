"""What a shell script says, as commands with words: parsed by tree-sitter's bash grammar, never run.

Covered: quoting, variables that are set once to a literal, pipes, background, redirections, here-documents,
substitutions. Not covered: aliases, globs, braces and arithmetic, which are taken as they are written.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import process_time

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from tournament_sync.inspection.shell_commands import (
    Assignment,
    LineMap,
    Redirect,
    ShellCommand,
    ShellSyntax,
    Word,
    name_set,
)

# The parser's time and memory grow with the square of what does not parse: 64 KiB of the worst that was
# found take 7 s. One pipe of 8,000 parts that ends nowhere takes 13 s and cannot be stopped.
MAX_SCRIPT_BYTES = 64 << 10
MAX_PIPES = 2000
MAX_PARSE_S = 2.0  # of processor time
MAX_DEPTH = 200  # of a syntax tree
MAX_ERRORS = 20  # places of one script that are told

_LANGUAGE = Language(tree_sitter_bash.language())
_WORDS = name_set(
    "word number raw_string string ansi_c_string translated_string concatenation simple_expansion expansion "
    "command_substitution process_substitution arithmetic_expansion brace_expression"
)
_EXPANSIONS = name_set(
    "simple_expansion expansion command_substitution process_substitution arithmetic_expansion"
)
_COMMANDS = frozenset({"command", "declaration_command", "unset_command"})
_PLAIN_VARIABLE = re.compile(rb"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_WORD_ESCAPE = re.compile(rb"\\(\r?\n|.)", re.DOTALL)
_STRING_ESCAPE = re.compile(rb'\\(\r?\n|["$`\\])')
_ANSI_ESCAPE = re.compile(
    rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|(.))", re.DOTALL
)
_ANSI_LETTERS = {
    b"n": b"\n",
    b"t": b"\t",
    b"r": b"\r",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"v": b"\v",
    b"e": b"\x1b",
    b"E": b"\x1b",
}


def parse_shell(data: bytes, lines: LineMap, *, variables: Mapping[str, str]) -> ShellSyntax:
    """The syntax of `data`. `variables` are values known from outside; the script's own go first."""
    if len(data) > MAX_SCRIPT_BYTES:
        return _unread(lines, f"{len(data)} bytes are over the limit of {MAX_SCRIPT_BYTES}")
    if b"\0" in data:
        return _unread(lines, "a NUL byte")
    if (pipes := data.count(b"|")) > MAX_PIPES:
        return _unread(lines, f"{pipes} pipes are over the limit of {MAX_PIPES}")
    root = _parse(data)
    if root is None:
        return _unread(lines, f"parsing took longer than {MAX_PARSE_S:g} s")
    return _Reader(data, lines, variables).read(root)


def _parse(data: bytes) -> Node | None:
    # Processor time, so that a busy machine does not change what is found.
    end_s = process_time() + MAX_PARSE_S
    try:
        tree = Parser(_LANGUAGE).parse(
            lambda offset, _: data[offset:], progress_callback=lambda _, __: process_time() > end_s
        )
    except ValueError:  # "Parsing failed": the callback said so
        return None
    return tree.root_node


def _unread(lines: LineMap, why: str) -> ShellSyntax:
    return ShellSyntax(commands=(), errors=((lines.at(0), why),))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a node stands."""

    depth: int = 0
    parent: str = ""
    in_background: bool = False
    stages: tuple[tuple[int, int], ...] = ()
    redirects: tuple[Node, ...] = ()  # of the statement around it


class _Reader:
    """One pass over a syntax tree, without recursion: hostile scripts nest deeper than Python's stack."""

    def __init__(self, data: bytes, lines: LineMap, variables: Mapping[str, str]) -> None:
        self._data = data
        self._lines = lines
        self._known = {name: value.encode() for name, value in variables.items()}
        self._commands: list[ShellCommand] = []
        self._errors: list[tuple[int, str]] = []
        self._pipes = 0

    def read(self, root: Node) -> ShellSyntax:
        self._learn_variables(root)
        stack = [(root, _Place())]
        while stack:
            node, place = stack.pop()
            if node.is_error or node.is_missing:
                self._error(node, self._text(node) or f"missing {node.type}")
            if place.depth > MAX_DEPTH:
                self._error(node, f"nested deeper than {MAX_DEPTH}")
                continue
            if node.type in _COMMANDS or _is_assignment_alone(node, place):
                self._commands.append(self._command(node, place))
            stack.extend(reversed(list(self._children(node, place))))
        ordered = sorted(self._commands, key=lambda command: command.span)
        return ShellSyntax(commands=tuple(ordered), errors=tuple(self._errors))

    def _error(self, node: Node, found: str) -> None:
        if len(self._errors) < MAX_ERRORS:
            self._errors.append((self._lines.at(node.start_byte), found))

    def _text(self, node: Node) -> str:
        return self._data[node.start_byte : node.end_byte].decode(errors="replace")

    def _learn_variables(self, root: Node) -> None:
        # Only what is set in one place, and to a literal, has one value that can be read here.
        assigned: Counter[str] = Counter()
        values: dict[str, bytes] = {}
        for node in _walk(root):
            if node.type == "for_statement" and (variable := node.child_by_field_name("variable")):
                assigned[self._text(variable)] += 2
            if node.type != "variable_assignment":
                continue
            name = self._text(node.child_by_field_name("name") or node)
            assigned[name] += 1
            self._known.pop(name, None)
            value = self._assigned(node)
            if value.is_literal and assigned[name] == 1:
                values[name] = self._known[name] = value.text.encode()
        for name, times in assigned.items():
            if times > 1:
                self._known.pop(name, None)

    def _children(self, node: Node, place: _Place) -> Iterator[tuple[Node, _Place]]:
        if node.type == "heredoc_body" and not node.named_children:
            return
        children = node.children
        pipe = self._new_pipe() if _is_piped(node) else None
        redirects = place.redirects
        if node.type == "redirected_statement":
            redirects += tuple(node.children_by_field_name("redirect"))
        elif node.type in {"command_substitution", "process_substitution", "heredoc_redirect"}:
            redirects = ()
        stage = 0
        for number, child in enumerate(children):
            stage += child.type in {"|", "|&"}
            stages = place.stages if pipe is None else (*place.stages, (pipe, stage))
            if node.type == "heredoc_redirect" and child.type == "pipeline" and stages:
                stages = (*stages[:-1], (stages[-1][0], 1))  # what `cat <<A | sh` pipes into
            follows = children[number + 1].type if number + 1 < len(children) else ""
            yield (
                child,
                _Place(
                    depth=place.depth + 1,
                    parent=node.type,
                    in_background=place.in_background or follows == "&",
                    stages=stages,
                    redirects=redirects,
                ),
            )

    def _new_pipe(self) -> int:
        self._pipes += 1
        return self._pipes

    def _command(self, node: Node, place: _Place) -> ShellCommand:
        parts = [node] if node.type == "variable_assignment" else node.children
        words = [self._word(part) for part in parts if part.type in _WORDS]
        if node.type in _COMMANDS - {"command"}:
            words.insert(0, self._literal(parts[0], self._text(parts[0])))
        for part in parts:
            if part.type == "command_name":
                words.insert(0, self._word(part.children[0] if part.children else part))
        redirects = [part for part in parts if part.type.endswith("_redirect")] + list(place.redirects)
        return ShellCommand(
            line=words[0].lines.at(0) if words else self._lines.at(node.start_byte),
            words=tuple(words),
            assignments=tuple(
                Assignment(
                    name=self._text(part.child_by_field_name("name") or part), value=self._assigned(part)
                )
                for part in parts
                if part.type == "variable_assignment"
            ),
            redirects=tuple(self._redirects(redirects)),
            stdin=self._stdin(redirects),
            in_background=place.in_background,
            stages=place.stages,
            span=(node.start_byte, node.end_byte),
        )

    def _assigned(self, node: Node) -> Word:
        value = node.child_by_field_name("value")
        if value is None:
            return self._literal(node, "")
        return self._word(value)

    def _redirects(self, nodes: list[Node]) -> Iterator[Redirect]:
        for node in nodes:
            target = node.child_by_field_name("destination")
            if node.type == "file_redirect" and target is not None:
                operator = next((part.type for part in node.children if not part.is_named), ">")
                yield Redirect(operator=operator, target=self._word(target))

    def _stdin(self, nodes: list[Node]) -> Word | None:
        for node in nodes:
            for part in node.children:
                if node.type == "herestring_redirect" and part.type in _WORDS:
                    return self._word(part)
                if part.type == "heredoc_body":
                    return self._body(part)
        return None

    def _body(self, node: Node) -> Word:
        pieces = _Pieces(self._lines)
        pieces.add(node.start_byte, self._data[node.start_byte : node.end_byte])
        return pieces.word(is_literal=not any(part.type in _EXPANSIONS for part in node.children))

    def _literal(self, node: Node, text: str) -> Word:
        return Word(text=text, is_literal=True, lines=LineMap(((0, self._lines.at(node.start_byte)),)))

    def _word(self, node: Node) -> Word:
        pieces = _Pieces(self._lines)
        parts = node.children if node.type == "concatenation" else [node]
        # A list first: all parts are read, so that the text of what is not literal is whole too.
        are_literal = [self._add(part, pieces) for part in parts]
        return pieces.word(is_literal=all(are_literal))

    def _add(self, node: Node, pieces: "_Pieces") -> bool:
        start, raw = node.start_byte, self._data[node.start_byte : node.end_byte]
        match node.type:
            case "raw_string":
                pieces.add(start + 1, raw[1:-1])
            case "ansi_c_string":
                pieces.add_value(start, _ANSI_ESCAPE.sub(_ansi, raw[2:-1]))
            case "string":
                return self._add_string(node, pieces)
            case "translated_string":
                return self._add_string(node.children[-1], pieces)
            case "simple_expansion" | "expansion":
                return self._add_variable(start, raw, pieces)
            case "word" | "number" | "variable_name" | "special_variable_name" | "regex":
                pieces.add_escaped(start, raw, _WORD_ESCAPE)
            case _:
                pieces.add(start, raw)
                return not node.is_named
        return True

    def _add_string(self, node: Node, pieces: "_Pieces") -> bool:
        position, end = node.start_byte + 1, node.end_byte - 1
        is_literal = True
        for part in node.children:
            if part.type in _EXPANSIONS:
                pieces.add_escaped(position, self._data[position : part.start_byte], _STRING_ESCAPE)
                is_literal &= self._add(part, pieces)
                position = part.end_byte
        pieces.add_escaped(position, self._data[position:end], _STRING_ESCAPE)
        return is_literal

    def _add_variable(self, start: int, raw: bytes, pieces: "_Pieces") -> bool:
        match = _PLAIN_VARIABLE.fullmatch(raw)
        value = self._known.get((match[1] or match[2]).decode()) if match else None
        pieces.add_value(start, raw if value is None else value)
        return value is not None


@dataclass(slots=True)
class _Pieces:
    """A word as it is put together, and where in its file each piece stood."""

    lines: LineMap
    data: bytearray = field(default_factory=bytearray)
    marks: list[tuple[int, int]] = field(default_factory=list)

    def add(self, start: int, piece: bytes) -> None:
        """Append what stands in the text at `start`."""
        self._mark(start)
        for at, line in self.lines.between(start, start + len(piece)):
            self.marks.append((len(self.data) + at - start, line))
        self.data += piece

    def add_value(self, start: int, value: bytes) -> None:
        """Append what is meant by something at `start`."""
        self._mark(start)
        self.data += value

    def add_escaped(self, start: int, raw: bytes, escape: re.Pattern[bytes]) -> None:
        position = 0
        for match in escape.finditer(raw):
            self.add(start + position, raw[position : match.start()])
            if not match[1].endswith(b"\n"):
                self.add(start + match.start(1), match[1])
            position = match.end()
        self.add(start + position, raw[position:])

    def word(self, *, is_literal: bool) -> Word:
        return Word(
            text=self.data.decode(errors="replace"),
            is_literal=is_literal,
            lines=LineMap(tuple(self.marks) or ((0, self.lines.at(0)),)),
        )

    def _mark(self, start: int) -> None:
        line = self.lines.at(start)
        if not self.marks or self.marks[-1][1] != line:
            self.marks.append((len(self.data), line))


def _walk(root: Node) -> Iterator[Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def _is_assignment_alone(node: Node, place: _Place) -> bool:
    # Before a command or after `export` it is told with that command.
    if node.type not in {"variable_assignment", "variable_assignments"}:
        return False
    return place.parent not in {"command", "declaration_command", "variable_assignments"}


def _is_piped(node: Node) -> bool:
    if node.type == "pipeline":
        return True
    return node.type == "redirected_statement" and any(
        part.type == "heredoc_redirect" and any(inner.type == "pipeline" for inner in part.children)
        for part in node.children
    )


def _ansi(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, short, long, letter = match.groups()
    if letter is not None:
        return _ANSI_LETTERS.get(letter, letter)
    if hexadecimal or octal:
        return bytes([int(hexadecimal or octal, 16 if hexadecimal else 8) & 0xFF])
    code = int(short or long, 16)
    return chr(code).encode(errors="replace") if code <= 0x10FFFF else b"?"
