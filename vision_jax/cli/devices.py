"""How many devices a command uses, decided before JAX looks for them."""

from __future__ import annotations

import os

from vision_jax.types import UserError

# Virtual devices share the cores: the last one may reach a collective long after the first.
_PATIENCE = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 300,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 600,
}


def use_devices(count: int | None, distributed: bool = False) -> None:
    """Prepares `count` devices; on a machine with CPUs only, that many virtual ones.

    Must be called before anything is computed.

    Args:
        count: devices of this process; None leaves the choice to JAX.
        distributed: join the other processes of a cluster job first (Slurm, TPU pods, and Open MPI are
            recognised; elsewhere JAX's coordinator variables say who takes part).

    Raises:
        UserError: fewer devices are there, or the other processes cannot be found.
    """
    if count is not None and count < 1:
        raise UserError(f"--devices {count}: give 1 or more")
    if count is not None and count > 1:
        flags = os.environ.get("XLA_FLAGS", "")
        added = [f"{name}={seconds}" for name, seconds in _PATIENCE.items() if name not in flags]
        os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    import jax

    if count is not None and count > 1:
        jax.config.update("jax_num_cpu_devices", count)
    if distributed:
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"--distributed: {error}") from error
    available = jax.local_device_count()
    if count is not None and count > available:
        raise UserError(f"--devices {count}: this machine has {available}")
