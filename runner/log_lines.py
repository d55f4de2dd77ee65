"""A guest's raw output as whole lines: progress bars reduced to their last state, over-long lines cut, no secrets.

What is covered: lines without end, output without line feeds, secrets across the places where it was cut.
What is not covered: characters. Bytes that are no UTF-8 and control characters stay; whoever shows them escapes.
"""

from runner.scrub import MAX_VALUE_BYTES, Scrubber


class LineCutter:
    """Makes lines of what it is fed. Holds back what does not end yet, at most one line's bytes."""

    def __init__(self, scrubber: Scrubber, *, max_line_bytes: int) -> None:
        self._scrubber = scrubber
        self._max_line_bytes = max_line_bytes
        # A secret that begins before the cut is seen whole.
        self._seen_bytes = max_line_bytes + MAX_VALUE_BYTES
        self._rest = b""
        self._beyond_bytes = 0  # of an over-long line, beyond what is held of it
        self._is_lost = False  # the beginning of the line is unknown

    def feed(self, chunk: bytes, *, is_due: bool) -> bytes:
        """The lines that end in `chunk`. Of a line that is overwritten the last state becomes one if `is_due`."""
        if self._is_lost or self._beyond_bytes:
            return self._feed_tail(chunk, is_due=is_due)
        whole, feed, rest = (self._rest + chunk).rpartition(b"\n")
        state, self._rest = _last_state(rest)
        if len(self._rest) > self._seen_bytes:
            self._beyond_bytes = len(self._rest) - self._seen_bytes
            self._rest = self._rest[: self._seen_bytes]
        lines = self._finish(whole + feed) if feed else b""
        if is_due and state.strip():
            lines += self._finish(state + b"\n")
        return lines

    def end(self) -> bytes:
        """What was held back, as a line."""
        held, beyond_bytes = self._rest, self._beyond_bytes
        self._rest, self._beyond_bytes = b"", 0
        if not held or self._is_lost:
            return b""
        return self._cut(held, beyond_bytes) if beyond_bytes else self._finish(held + b"\n")

    def after_gap(self) -> int:
        """Some output was never seen: the line that it broke off is dropped. Returns the bytes of it held."""
        dropped = len(self._rest) + self._beyond_bytes
        self._rest, self._beyond_bytes, self._is_lost = b"", 0, True
        self._scrubber.after_gap()
        return dropped

    def _feed_tail(self, chunk: bytes, *, is_due: bool) -> bytes:
        """Pass over the rest of a line that is not kept."""
        tail, feed, behind = chunk.partition(b"\n")
        if not self._is_lost:
            self._beyond_bytes += len(tail)
        if not feed:
            return b""
        line = self.end()
        self._is_lost = False
        return line + self.feed(behind, is_due=is_due)

    def _finish(self, lines: bytes) -> bytes:
        """`lines`, the last one ended, as they are kept."""
        if b"\r" in lines:
            lines = b"\n".join(map(_shown, lines.split(b"\n")))
        parts = lines.split(b"\n")
        if max(map(len, parts)) <= self._max_line_bytes:
            return self._scrubber.scrub(lines)
        parts.pop()
        return b"".join(
            self._scrubber.scrub(line + b"\n") if len(line) <= self._max_line_bytes else self._cut(line, 0)
            for line in parts
        )

    def _cut(self, line: bytes, beyond_bytes: int) -> bytes:
        seen = line[: self._seen_bytes]
        clean = self._scrubber.scrub(seen + b"\n")[:-1]
        # What scrubbing made shorter moved text to the front that may be the beginning of a cut secret.
        room = max(0, self._max_line_bytes - max(0, len(seen) - len(clean)))
        left_out = len(line) + beyond_bytes - room
        return b"%b [%d bytes of this line left out]\n" % (_whole_characters(clean[:room]), left_out)


def _last_state(rest: bytes) -> tuple[bytes, bytes]:
    """The last overwritten state in an unfinished line, and what stands behind it."""
    if b"\r" not in rest:
        return b"", rest
    # Carriage returns at the very end may belong to a line's end.
    states = rest.rstrip(b"\r").rsplit(b"\r", 2)
    ending = b"\r" if rest.endswith(b"\r") else b""
    return (states[-2] if len(states) > 1 else b""), states[-1] + ending


def _shown(line: bytes) -> bytes:
    """What of `line` a terminal shows in the end, more or less."""
    return line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line


def _whole_characters(text: bytes) -> bytes:
    """`text` without a character that was cut at its end."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte & 0b1100_0000 != 0b1000_0000:
            needed = 1 if byte < 0b1100_0000 else 2 if byte < 0b1110_0000 else 3 if byte < 0b1111_0000 else 4
            return text if needed <= back else text[:-back]
    return text
