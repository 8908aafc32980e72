"""Scripts beside the experiments: a function's signature is the command line; mistakes have no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from vision_jax.types import UserError


def run_script(function: Callable[..., Any]) -> None:
    """Calls a function with the arguments of the command line.

    Args:
        function: its signature and docstring are the command line and its help.

    Raises:
        SystemExit: 2 for a mistake, after its message, without a traceback.
    """
    try:
        tyro.cli(function)
    except UserError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
