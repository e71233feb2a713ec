"""The honest number of a round: the student's errors on structures it led to and has not been trained on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any


def on_policy(run: Path, labels: Path, ids: Collection[str], device: str = "cpu") -> dict[str, Any]:
    """Errors of the run's student on those structures of the label set whose ids are given, whatever their split.

    force_mae and force_rms (of the labels) in meV/A over components, energy_mae in meV/atom; None where none was labelled.
    """
    import numpy as np

    from hdistill.data.format.schema import SPLITS
    from hdistill.data.labelsets.label_set import open_label_set
    from hdistill.data.labelsets.stream import in_order
    from hdistill.trainer.evaluation.errors import errors_of, joined, summary
    from hdistill.trainer.force_field.checkpoint import load_student

    trained, label_set = load_student(run, device), open_label_set(labels)
    wanted = set(ids)
    samples = [s for split in SPLITS for s in in_order(label_set, split) if s.structure.id in wanted]
    if not samples:
        return {"n": 0, "force_mae": None, "force_rms": None, "energy_mae": None, "hessian_relative_error": None}
    rows = errors_of(trained.model, trained.cutoff, trained.card.references, samples, "teacher", device=device)
    found = summary(joined(list(rows)))
    forces = np.concatenate([np.asarray(s.labels.forces, float).ravel() for s in samples])
    return {
        "n": len(samples),
        "force_mae": found.force_mae_mev_per_angstrom,
        "force_rms": 1e3 * float(np.sqrt((forces**2).mean())),
        "energy_mae": found.energy_mae_mev_per_atom,
        "hessian_relative_error": found.hessian_relative_error,
    }


def is_accurate(errors: dict[str, Any], force_error: float, force_share: float) -> bool:
    """Whether a mean force error (meV/A) is within one of the two limits."""
    if errors["force_mae"] is None:
        return False
    limit = max(force_error, force_share * errors["force_rms"])
    return bool(errors["force_mae"] <= limit)
