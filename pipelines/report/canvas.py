"""An empty picture, and one as PNG bytes: readable on white, colours that colour-blind people tell apart (Okabe and Ito)."""

from __future__ import annotations

import io
from typing import Any

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"
COLORS = [BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
STYLES = ["-", "--", ":", "-."]
DPI = 130


def figure_of(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def png_of(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    return data.getvalue()
