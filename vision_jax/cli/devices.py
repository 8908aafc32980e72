"""How many devices a command uses, decided before JAX looks for them."""

from __future__ import annotations

import contextlib
import os

from vision_jax.types import UserError

# Virtual devices share the cores: the last one may reach a collective long after the first.
_PATIENCE = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 300,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 600,
}


def use_devices(count: int | None) -> None:
    """Prepares `count` devices; on a machine with CPUs only, that many virtual ones.

    Must be called before anything is computed.

    Args:
        count: devices of this process; None leaves the choice to JAX. Whether there are so many is seen
            later.

    Raises:
        UserError: for a number below 1.
    """
    if count is None:
        return
    if count < 1:
        raise UserError(f"--devices {count}: give 1 or more")
    if count == 1:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    added = [f"{name}={seconds}" for name, seconds in _PATIENCE.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    import jax

    # In a program that has computed already (a notebook, a test) the devices are what they are.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
