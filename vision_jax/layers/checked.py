"""Modules whose settings are checked as soon as they are made."""

from __future__ import annotations

import flax.linen as nn

from vision_jax.types import check_fields


class CheckedModule(nn.Module):
    """A module that refuses settings against their types' rules (`vision_jax.types.options`).

    Making one raises a `UserError` that names the setting, its value and what is allowed.
    """

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()
