"""fairchem's own calculator. Charge and multiplicity are stated for omol alone; the rest gets the package's defaults."""

from __future__ import annotations

from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    import torch
    from fairchem.core import FAIRChemCalculator
    from fairchem.core.units.mlip_unit import InferenceSettings, load_predict_unit

    class WithoutCharge(FAIRChemCalculator):
        def calculate(self, atoms: Any, properties: Any, system_changes: Any) -> None:
            bare = atoms.copy()
            bare.info.clear()
            super().calculate(bare, properties, system_changes)

    settings = InferenceSettings(
        tf32=False,
        activation_checkpointing=False,
        merge_mole=False,
        compile=False,
        base_precision_dtype=getattr(torch, dtype),
    )
    unit = load_predict_unit(model, settings, device=device)
    return (FAIRChemCalculator if task == "omol" else WithoutCharge)(unit, task_name=task)
