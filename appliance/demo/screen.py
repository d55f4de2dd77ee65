"""What the demo shows: numbered steps, a live line while something runs, and the closing report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

STEPS = 8


class Screen:
    """Talk goes to stderr; the closing report alone goes to stdout."""

    def __init__(self) -> None:
        self.talk = Console(stderr=True, highlight=False)
        self.out = Console(highlight=False, soft_wrap=True)
        self._number = 0
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Status]:
        """One numbered step; its status line can be updated while it runs."""
        self._number += 1
        self.talk.print(f"[bold]{self._number}/{STEPS}[/] {title}")
        started = time.monotonic()
        with self.talk.status("…") as status:
            yield status
        self.talk.print(f"    [dim]{time.monotonic() - started:.1f} s[/]")

    def fact(self, text: str) -> None:
        """One line of detail under the current step."""
        self.talk.print(f"    {text}", markup=False, soft_wrap=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began
