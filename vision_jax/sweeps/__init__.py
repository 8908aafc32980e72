"""Many runs of one experiment: what varies, the processes that run it, the table and figure it ends as."""

from vision_jax.sweeps.claims import Claim, PaperFigures
from vision_jax.sweeps.points import Point, cross, grid, zip_

__all__ = ["Claim", "PaperFigures", "Point", "cross", "grid", "zip_"]
