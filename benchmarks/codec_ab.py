"""Does compression of Hessian products matter? Bytes, error and reading time of many codecs; then students trained on some of them.

    python benchmarks/codec_ab.py --data FOLDER_WITH_SPICE_FILES [-o OUT] [--steps 200] [--seeds 3]

Labels: SPICE monomers (H C N O, at most 16 atoms) from ANI-1x, perovskites from SevenNet-0, with 4 probes and with 4 rows, exact.
Students: same molecules, same probes, same initial weights and order of samples; only the precision of the products they learn from
differs. Their errors are against exact products of molecules that none has seen. An interrupted run continues.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import hashlib
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
from codec_sizes import Stored, by_largest, by_power, load, reading, restore, sizes

from hdistill.data.format.shard_file import image, read_arrays
from hdistill.data.labelsets.label_set import MANIFEST, SHARDS, LabelSet, open_label_set
from hdistill.data.support.typed import as_json
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting.fit import fit
from hdistill.trainer.fitting.settings import FitSettings

WHERE = "{'H','C','N','O'} >= elements and n_atoms <= 16"
SPLITS = "0.5,0.1,0.4"
ARMS: dict[str, Callable[[np.ndarray], Stored] | None] = {
    "exact": None,
    "int16, step by the largest": by_largest(16),
    "`compact`: step rms/64": by_power(6),
    "int8, step by the largest": by_largest(8),
    "step rms/2": by_power(1),
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("codec-ab"), show_default=True)
@click.option("--molecules", default=400, show_default=True, help="Half of them train.")
@click.option("--crystals", default=60, show_default=True, help="0: none.")
@click.option("--steps", default=200, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="0: sizes alone.")
@click.option("--student", default="painn-small", show_default=True)
def main(data: Path, out: Path, molecules: int, crystals: int, steps: int, seeds: int, student: str) -> None:
    sets = {}
    for hessian in ("probes:4", "rows:4"):
        settings = LabelSettings("ani-1x", ("spice:monomers",), WHERE, molecules, hessian, "exact", splits=SPLITS)
        sets[f"molecules, {hessian}"] = label(
            settings, out / f"molecules-{hessian[:-2]}", data, RunSettings(), _say
        ).path
        if crystals:
            settings = LabelSettings("7net-0", ("perovskites",), limit=crystals, hessian=hessian, codec="exact")
            sets[f"crystals, {hessian}"] = label(
                settings, out / f"crystals-{hessian[:-2]}", None, RunSettings(), _say
            ).path
    loaded = {name: load(folder) for name, folder in sets.items()}
    print(sizes(loaded), reading(loaded["molecules, probes:4"]), sep="\n\n", flush=True)
    if seeds:
        rows = students(sets["molecules, probes:4"], out, steps, seeds, student)
        (out / f"{student}-{steps}.json").write_text(json.dumps(rows, indent=1))
        print("\n" + markdown(rows))


def students(exact: Path, out: Path, steps: int, seeds: int, student: str) -> list[dict[str, Any]]:
    """Errors of every arm and seed; seeds in turn, so that a machine that slows down or a run cut short is the same for all."""
    arms = {
        name: (exact, 0.0) if quantise is None else requantised(exact, out, name, quantise)
        for name, quantise in ARMS.items()
    }
    rows = []
    for seed in range(seeds):
        for name, (labels, error) in arms.items():
            _say(f"seed {seed}: {name}")
            settings = FitSettings(
                student=student, steps=steps, seed=seed, validate_every=steps
            )  # the last weights are kept
            run = out / f"{student}-{steps}-{labels.name}-{seed}"
            # The order of samples follows from the bytes of a label set; here it is to be the same for all.
            with patch.object(LabelSet, "digest", "one order for all"):
                fit(labels, run, settings, progress=False)
            actual = evaluate_student(run, exact, "test")
            kept = {
                k: actual[k]
                for k in ("force_mae_mev_per_angstrom", "energy_mae_mev_per_atom", "hessian_relative_error")
            }
            rows.append({"seed": seed, "name": name, "label_error": error, **kept})
    return rows


def requantised(exact: Path, out: Path, name: str, quantise: Callable[[np.ndarray], Stored]) -> tuple[Path, float]:
    """A label set with the products that a codec gives back, stored as float32; and their mean relative error."""
    labels = open_label_set(exact)
    folder = out / f"molecules-{''.join(c for c in name if c.isalnum())}"
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    errors, entries = [], []
    for entry, stated in zip(labels.shards, as_json(labels.manifest)["shards"], strict=True):
        arrays, attributes = read_arrays(entry.path)
        n_atoms = np.repeat(np.diff(arrays["atom_offsets"]), np.diff(arrays["product_offsets"]))
        given = np.split(arrays["hessian_values"].astype(np.float64), np.cumsum(3 * n_atoms)[:-1])
        back = [restore(quantise(x.reshape(1, -1, 3))).ravel() for x in given]
        errors += [np.linalg.norm(b - x) / np.linalg.norm(x) for b, x in zip(back, given, strict=True)]
        arrays["hessian_values"] = np.concatenate(back).astype("<f4")
        data = image(arrays, {"plan": attributes["plan"]})
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"{entry.path.name[:5]}-{sha256[:8]}.h5"
        (folder / SHARDS / file).write_bytes(data)
        entries.append(stated | {"name": file, "bytes": len(data), "sha256": sha256})
    (folder / MANIFEST).write_text(json.dumps(as_json(labels.manifest) | {"shards": entries}))
    return folder, float(np.mean(errors))


def markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each arm: means over the seeds; ratios to the exact arm of the same seed with their standard error."""
    seeds = sorted({row["seed"] for row in rows})
    exact = {row["seed"]: row for row in rows if row["name"] == "exact"}
    lines = [
        "| learned from | label error | force MAE meV/Å | ratio to exact | Hessian rel. error | ratio to exact |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]

        def cells(key: str, form: str, own: list[dict[str, Any]] = own) -> str:
            ratios = [row[key] / exact[row["seed"]][key] for row in own]
            error = statistics.stdev(ratios) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            return f"{statistics.mean(row[key] for row in own):{form}} | {statistics.mean(ratios):.3f} ± {error:.3f}"

        both = f"{cells('force_mae_mev_per_angstrom', '.1f')} | {cells('hessian_relative_error', '.4f')}"
        lines.append(f"| {name} | {own[0]['label_error']:.1e} | {both} |")
    spread = {
        key: statistics.stdev(row[key] for row in exact.values()) / statistics.mean(row[key] for row in exact.values())
        for key in ("force_mae_mev_per_angstrom", "hessian_relative_error")
        if len(seeds) > 1
    }
    of = ", ".join(f"{key.split('_')[0]} {value:.1%}" for key, value in spread.items())
    return "\n".join(lines) + f"\n\n{len(seeds)} seeds; standard deviation from seed to seed with exact labels: {of}."


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
