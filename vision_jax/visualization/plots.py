"""Matplotlib without windows or global state, in one look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vision_jax.types import Picture
from vision_jax.types.lettering import letter_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008) without yellow, which vanishes on white; black is kept for totals.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def new_figure(width: float, height: float, dots: int = 110) -> Figure:
    """A figure of a size in inches, rendered off screen at so many pixels an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dots, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr]
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes) -> None:
    """Takes the box away and puts a light grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)


def to_picture(figure: Figure) -> Picture:
    """Renders a figure, its texts in letters that a font has."""
    letter_figure(figure)
    canvas = figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba(), np.uint8)[..., :3].copy()  # type: ignore[attr-defined]
