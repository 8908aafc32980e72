"""Measured cases as a markdown table, with what they were measured on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vision_jax.types.lettering import table_cell

# Of one case, as `vision_jax.benchmarks.run.benchmark` yields it.
Measurement = dict[str, Any]


def benchmark_report(rows: Sequence[Measurement], about: Mapping[str, Any]) -> str:
    """A page: the machine, the table, how to read it.

    Args:
        rows: as `benchmark` gives them.
        about: `command`, `date`, `rounds` and `machine`.

    Returns:
        Markdown.
    """
    machine = about["machine"]
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else ""
    devices = sorted({row["device"] for row in rows if "device" in row})
    hows = sorted({row["memory_how"] for row in rows if "memory_how" in row})
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"    {about['command']}",
        "",
        f"{machine['name']}: {machine['processor']}, {machine['cores']} cores{memory}; {machine['system']}. "
        f"JAX on {', '.join(devices) or 'nothing'}. {versions}. {about['date']}.",
        "",
        *table(rows),
        "",
        f"Times: medians of {about['rounds']} rounds, both sides in turn, {machine['cores']} threads each; "
        "times as fast: the peer's time over ours, above 1 where ours is faster. First call: tracing, "
        "compiling and one run, and the same with compiled programs kept from before.",
    ]
    if hows:
        lines[-1] += f" Memory: {'; '.join(hows)}."
    lines += [f"\n{row['name']} failed: {row['error']}" for row in rows if "error" in row]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Measurement]) -> list[str]:
    """The lines of the table, times as medians; the peer's columns only where a peer ran."""
    peers = any("theirs" in row.get("seconds", {}) for row in rows)
    heads = [
        "case",
        "vision_jax, ms",
        *(["torchvision, ms", "times as fast"] if peers else []),
        "images/s",
        "counts",
    ]
    heads += ["first call cold, s", "warm, s", "memory, MiB", *(["torchvision, MiB"] if peers else [])]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for row in rows:
        if "error" not in row:
            lines.append(f"| {' | '.join(map(table_cell, _cells(row, peers)))} |")
    return lines


def medians(row: Measurement) -> dict[str, float]:
    """Median seconds of each side."""
    return {name: statistics.median(values) for name, values in row["seconds"].items()}


def times_as_fast(seconds: Mapping[str, float]) -> float:
    """How many times as fast ours is: the peer's seconds over ours, above 1 where ours is faster."""
    return seconds["theirs"] / seconds["ours"]


def _cells(row: Measurement, peers: bool) -> list[str]:
    seconds, memory = medians(row), row["memory"]
    both = "theirs" in seconds
    cells = [row["name"], _number(seconds["ours"] * 1e3)]
    if peers and both:
        cells += [_number(seconds["theirs"] * 1e3), f"{times_as_fast(seconds):.2f}"]
    elif peers:
        cells += ["", ""]
    cells.append(_number(row["images"] / seconds["ours"]) if row["images"] else "")
    cells.append(_counts(row["counts"]))
    cells += [f"{row['first_call'][name]:.2f}" for name in ("cold", "warm")]
    cells.append(_number(memory["ours"] / 2**20))
    if peers:
        cells.append(_number(memory["theirs"] / 2**20) if both else "")
    return cells


def _counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """`100 and 100 detections`: ours, then the peer's."""
    words = []
    for what, ours in counts["ours"].items():
        sides = [ours, *([counts["theirs"][what]] if "theirs" in counts else [])]
        words.append(f"{' and '.join(map(str, sides))} {what}")
    return ", ".join(words)


def _number(value: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
