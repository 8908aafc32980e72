"""Reports on the terminal."""

from __future__ import annotations

from collections.abc import Mapping


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Prints names and values, one a line, aligned; whole numbers without decimals."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        text = f"{value:.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.4g}"
        print(f"{name:<{width}}  {text}")


def print_tables(tables: Mapping[str, str]) -> None:
    """Prints each table after its name."""
    for name, text in tables.items():
        print(f"\n{name.removesuffix('.md').replace('_', ' ')}\n\n{text.rstrip()}")
