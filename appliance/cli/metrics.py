"""`assay runs metrics`: what a run used, as small plots."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Final

import typer

from appliance.cli.fetching import RunArgument
from appliance.cli.options import DEFAULT_URL, OutputOption, TokenFileOption, UrlOption, open_client
from appliance.cli.output import Format, one_line, print_json, talk

POINTS: Final = 60
MAX_CURVES: Final = 6
GIB: Final = 1 << 30
MICROS: Final = 1_000_000

_BARS: Final = "▁▂▃▄▅▆▇█"
_GAP: Final = " "

Values = Sequence[float | None]


def register(runs: typer.Typer) -> None:
    """Add the command to the noun `runs`."""
    runs.command("metrics")(metrics)


def metrics(
    run_id: RunArgument,
    points: Annotated[int, typer.Option(min=1, max=5000, help="Samples, at most.")] = POINTS,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Plot what a run used: CPU, memory, disk, GPUs; and its loss, if the champion told one."""
    page = open_client(url, token_file).metrics(run_id, points=points)
    if output is Format.JSON:
        print_json(page)
        return
    samples, losses = page["samples"], page["losses"]
    if not samples:
        talk("nothing was measured" if page["ended"] else "nothing is measured yet")
    for line in plots(samples):
        print(line)
    if losses is None:
        talk("no loss curve: the champion wrote and printed none that is known here")
        return
    for line in curves(losses):
        print(line)
    print(f"losses are what the champion says, in {one_line(losses['source'])}: {one_line(losses['file'])}")


def plots(samples: Sequence[dict[str, Any]]) -> list[str]:  # Any: the API's plain JSON
    """One line for everything that was measured."""
    if not samples:
        return []
    rows: list[tuple[str, Values, str]] = [
        ("CPUs", _cpus(samples), ".2f"),
        ("memory GiB", _scaled(samples, "memory_bytes", GIB), ".2f"),
        ("output GiB", _scaled(samples, "output_bytes", GIB), ".2f"),
        ("root GiB", _scaled(samples, "root_bytes", GIB), ".2f"),
        ("processes", _scaled(samples, "pids", 1), ".0f"),
    ]
    for index in range(max(len(sample["gpu_percent"]) for sample in samples)):
        rows += [
            (f"GPU {index} %", _of_gpu(samples, "gpu_percent", index, 1), ".0f"),
            (f"GPU {index} GiB", _of_gpu(samples, "gpu_memory_bytes", index, GIB), ".2f"),
            (f"GPU {index} W", _of_gpu(samples, "gpu_power_mw", index, 1000), ".0f"),
            (f"GPU {index} °C", _of_gpu(samples, "gpu_celsius", index, 1), ".0f"),
        ]
    seconds = samples[-1]["elapsed_ms"] // 1000
    title = (
        f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} h of the run, {len(samples)} samples"
    )
    return [title, *(_plot(*row) for row in rows if any(value is not None for value in row[1]))]


def curves(losses: dict[str, Any]) -> list[str]:  # Any: the API's plain JSON
    """One line for each name in the curve."""
    by_name: dict[str, list[float | None]] = {}
    for point in losses["points"]:
        by_name.setdefault(str(point["name"]), []).append(point["micros"] / MICROS)
    lines = [
        _plot(one_line(name), _fewer(values), ".4f") for name, values in list(by_name.items())[:MAX_CURVES]
    ]
    if losses["not_finite"]:
        lines.append(f"{losses['not_finite']} values are not finite")
    return lines


def sparkline(values: Values) -> str:
    """`values` between their least and their greatest; a gap for what is not known."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    top = len(_BARS) - 1
    return "".join(
        _GAP if value is None else _BARS[round((value - low) / span * top) if span else 0] for value in values
    )


def _plot(name: str, values: Values, form: str) -> str:
    known = [value for value in values if value is not None]
    facts = f"{min(known):{form}}…{max(known):{form}}, last {known[-1]:{form}}"
    return f"{name:<14} {sparkline(values)}  {facts}"


def _cpus(samples: Sequence[dict[str, Any]]) -> Values:
    """How many processors were busy between two samples."""

    def rate(before: dict[str, Any], after: dict[str, Any]) -> float | None:
        passed = after["elapsed_ms"] - before["elapsed_ms"]
        if before["cpu_ms"] is None or after["cpu_ms"] is None or passed <= 0:
            return None
        return float(after["cpu_ms"] - before["cpu_ms"]) / float(passed)

    return [rate(before, after) for before, after in pairwise(samples)]


def _scaled(samples: Sequence[dict[str, Any]], name: str, unit: int) -> Values:
    return [None if sample[name] is None else sample[name] / unit for sample in samples]


def _of_gpu(samples: Sequence[dict[str, Any]], name: str, index: int, unit: int) -> Values:
    def value(sample: dict[str, Any]) -> float | None:
        found = sample[name][index] if index < len(sample[name]) else None
        return None if found is None else found / unit

    return [value(sample) for sample in samples]


def _fewer(values: list[float | None]) -> Values:
    """At most POINTS of them, the last among them."""
    stride = -(-len(values) // POINTS)
    return values[::-stride][::-1]
