"""One measurement in a process of its own: `python -m vision_jax.benchmarks.child`, a JSON object on stdin.

{"case": name, "settings": {...}, "what": "time", "rounds": n, "peers": bool, "out": file}, or
{"case": name, "settings": {...}, "what": "ours" or "theirs", "out": file} for memory. Writes to the file
what was measured, or {"error": message} for a mistake of the user's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vision_jax.benchmarks.case import Settings
from vision_jax.benchmarks.cases import CASES
from vision_jax.benchmarks.measure import measure_memory, measure_time
from vision_jax.types import UserError


def measured(order: dict[str, Any]) -> dict[str, Any]:
    """Carries out one order, as described above."""
    try:
        case = CASES[order["case"]](Settings(**order["settings"]))
        if order["what"] == "time":
            return measure_time(case, order["rounds"], order["peers"])
        return measure_memory(case, order["what"])
    except UserError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    order = json.load(sys.stdin)
    Path(order["out"]).write_text(json.dumps(measured(order)))
