"""Pictures of the report, as PNG bytes: readable on white, colour-blind safe, units on axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from .canvas import BLUE, COLORS, GREY, ORANGE, STYLES, figure_of, png_of
from .physical_figures import physical_figures
from .rounds import rounds_picture


def figures_of(report: Mapping[str, Any]) -> dict[str, bytes]:
    """By the names that page.py gives them; report: as in report.json. None where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return {}
    parts: Mapping[str, Mapping[str, Any]] = report["parts"]
    made: dict[str, bytes] = {}
    if "distill" in report:
        made["rounds"] = rounds_picture(report["distill"])
    accuracy, smooth = parts.get("accuracy", {}), parts.get("smoothness", {})
    if "parity" in accuracy:
        made["parity"] = _parity(accuracy["parity"])
    if accuracy.get("pictured"):
        made["worst"] = _worst(accuracy["pictured"])
    if accuracy.get("strangeness"):
        made["strangeness"] = _strangeness(accuracy["strangeness"])
    if "dimers" in smooth:
        made["dimers"] = _dimers(smooth["dimers"])
    return made | physical_figures(parts)


def _parity(points: Mapping[str, Any]) -> bytes:
    figure, axis = figure_of(4.6, 4.4)
    limit = 1.05 * max(map(abs, (*points["label"], *points["student"])), default=1.0)
    axis.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=1)
    axis.scatter(points["label"], points["student"], s=6, color=BLUE, alpha=0.5, linewidths=0)
    axis.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel="force of the labels, eV/Å",
        ylabel="force of the student, eV/Å",
    )
    axis.set_aspect("equal")
    return png_of(figure)


def _worst(structures: Sequence[Mapping[str, Any]]) -> bytes:
    """Side by side, with one scale of colours."""
    import numpy as np
    from ase import Atoms
    from ase.visualize.plot import plot_atoms
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(structures) + 0.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(structures), squeeze=False).ravel()
    scale = Normalize(0, max(max(of["force_error"]) for of in structures))
    colors = colormaps["OrRd"]
    for axis, of in zip(axes, structures, strict=True):
        atoms = Atoms(of["numbers"], of["positions"], cell=of["cell"], pbc=of["pbc"])
        worst = int(np.argmax(of["force_error"]))
        plot_atoms(atoms, axis, radii=0.5, rotation="15x,20y,0z", colors=colors(scale(of["force_error"])))
        axis.set_axis_off()
        name = of["group"] or of["structure"][:12]
        axis.set_title(f"{name}\n{atoms.symbols[worst]}{worst}: {of['force_error'][worst]:.0f} meV/Å", fontsize=9)
    bar = figure.colorbar(ScalarMappable(scale, colors), ax=axes, shrink=0.8)
    bar.set_label("error of an atom's force, meV/Å", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return png_of(figure)


def _strangeness(points: Mapping[str, Any]) -> bytes:
    figure, axis = figure_of(6.0, 4.0)
    axis.scatter(points["distance"], [1e3 * e for e in points["error"]], s=6, color=BLUE, alpha=0.5, linewidths=0)
    axis.axvline(1.0, color=ORANGE, linewidth=1, label="95 of 100 held-out atoms are below 1")
    axis.set(xlabel="domain distance of an atom", ylabel="error of its force, meV/Å", ylim=(0, None))
    axis.legend(frameon=False, fontsize=9, loc="upper right")
    return png_of(figure)


def _dimers(dimers: Mapping[str, Any]) -> bytes:
    figure, axis = figure_of(6.4, 4.2)
    for number, (name, dimer) in enumerate(dimers.items()):
        style = {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[(number // len(COLORS)) % len(STYLES)]}
        axis.plot(dimer["distances"], dimer["energies"], label=name, linewidth=1.4, **style)
    lowest = min(min(dimer["energies"]) for dimer in dimers.values())
    axis.set(xlabel="distance, Å", ylabel="energy above that at the cutoff, eV", ylim=(1.2 * min(lowest, -0.5), 10))
    if len(dimers) <= 21:
        axis.legend(frameon=False, fontsize=8, ncols=1 + len(dimers) // 8)
    return png_of(figure)
