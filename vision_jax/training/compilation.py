"""A cache of compiled programs between runs, so that only the first run of a model waits for XLA."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache, unless a folder for it was already chosen.

    The folder is `$JAX_COMPILATION_CACHE_DIR`, else `vision_jax/xla` in the user's cache directory
    (`$XDG_CACHE_HOME`, else `~/.cache`).
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "vision_jax" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
