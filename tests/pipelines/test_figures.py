"""Numbers on axes are plain."""

from __future__ import annotations

import pytest

from hdistill.pipelines.report.figures import plain_ticks


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((30, 140), ["50", "100"]),
        ((0.03, 0.6), ["0.05", "0.1", "0.2", "0.5"]),
        ((800, 30000), ["1000", "2000", "10000"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(limits: tuple[float, float], wanted: list[str]) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure()
    axis = figure.subplots()
    axis.set(yscale="log", ylim=limits)
    plain_ticks(axis.yaxis)
    figure.draw_without_rendering()
    texts = [label.get_text() for label in (*axis.get_yticklabels(), *axis.get_yticklabels(minor=True))]
    assert set(wanted) <= set(texts)
    assert all(float(text) >= 0 for text in texts if text)  # none is "$6 \\times 10^1$"
