"""Small fairchem checkpoints, made in seconds without training. Run by the fairchem family's interpreter:

    python tests/labeler/checkpoints/fairchem.py OUTPUT_DIR

    OUTPUT_DIR/conserving.pt   a small UMA: 2 experts, composition routing, tasks omat (with stress) and omol
    OUTPUT_DIR/direct.pt       a small direct-force model, one task: omat

Weights are random with fixed seeds; the tasks' scale (rmsd) gives curvature the size of real ones (|H| up to some 20 eV/A^2).
Energies of free atoms are stated for ELEMENTS only, which is how a checkpoint says what it was trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ELEMENTS = {1: -13.6, 6: -1029.3, 7: -1484.9, 8: -2042.0, 12: -200.1, 22: -1580.6, 38: -867.2}  # eV
UMA = "fairchem.core.models.uma"
UNIT = "fairchem.core.units.mlip_unit.mlip_unit"
NORMALIZATION = "fairchem.core.modules.normalization"
SCALE_CONSERVING, SCALE_DIRECT = 200.0, 30.0


def backbone(tasks: list[str], experts: int, direct: bool) -> dict[str, Any]:
    """Settings of the smallest eSCN-MD backbone that has every part of the real ones."""
    return {
        "model": f"{UMA}.escn_moe.eSCNMDMoeBackbone",
        "num_experts": experts,
        "use_composition_embedding": experts > 0,
        "max_num_elements": 100,
        "sphere_channels": 16,
        "hidden_channels": 16,
        "edge_channels": 16,
        "num_distance_basis": 16,
        "lmax": 2,
        "mmax": 2,
        "num_layers": 2,
        "cutoff": 6.0,
        "max_neighbors": 300,
        "otf_graph": True,
        "always_use_pbc": False,
        "direct_forces": direct,
        "regress_forces": True,
        "regress_stress": not direct,
        "dataset_mapping": {task: task for task in tasks},
    }


def head(wrapper: str, inner: str, tasks: list[str], **kwargs: Any) -> dict[str, Any]:
    return {
        "module": f"{UMA}.escn_moe.{wrapper}",
        "dataset_names": tasks,
        "head_cls": f"{UMA}.escn_md.{inner}",
        **kwargs,
    }


def task(dataset: str, quantity: str, scale: float) -> dict[str, Any]:
    """One task as tasks_config stores it. Energy, forces and stress of a dataset share their scale, or they would disagree."""
    actual: dict[str, Any] = {
        "_target_": f"{UNIT}.Task",
        "name": f"{dataset}_{quantity}",
        "level": "atom" if quantity == "forces" else "system",
        "property": quantity,
        "out_spec": {
            "_target_": f"{UNIT}.OutputSpec",
            "dim": {"energy": [1], "forces": [3], "stress": [1, 9]}[quantity],
            "dtype": "float32",
        },
        "normalizer": {"_target_": f"{NORMALIZATION}.normalizer.Normalizer", "mean": 0.0, "rmsd": scale},
        "datasets": [dataset],
    }
    if quantity == "energy":
        actual["element_references"] = {
            "_target_": f"{NORMALIZATION}.element_references.ElementReferences",
            "element_references": {
                "_target_": "torch.DoubleTensor",
                "_args_": [[ELEMENTS.get(number, 0.0) for number in range(100)]],
            },
        }
    return actual


def save(path: Path, model_config: dict[str, Any], tasks_config: list[dict[str, Any]], seed: int) -> None:
    import hydra
    import torch
    from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

    torch.manual_seed(seed)
    model = hydra.utils.instantiate(model_config)
    average = torch.optim.swa_utils.AveragedModel(model)  # inference reads the averaged weights only
    torch.save(MLIPInferenceCheckpoint(model_config, model.state_dict(), average.state_dict(), tasks_config), path)


def main(folder: Path) -> None:
    # The folder of this script comes first on the path, where `import fairchem` would find this very file.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    folder.mkdir(parents=True, exist_ok=True)
    hydra_model = {"_target_": "fairchem.core.models.base.HydraModel", "pass_through_head_outputs": True}
    both = ["omat", "omol"]
    conserving = {
        **hydra_model,
        "model_id": "UMA-small-for-tests",
        "backbone": backbone(both, experts=2, direct=False),
        "heads": {
            "mlp_efs": head(
                "DatasetSpecificSingleHeadWrapper", "MLP_EFS_Head", both, head_kwargs={"wrap_property": False}
            )
        },
    }
    quantities = [("omat", "energy"), ("omat", "forces"), ("omat", "stress"), ("omol", "energy"), ("omol", "forces")]
    save(folder / "conserving.pt", conserving, [task(*names, SCALE_CONSERVING) for names in quantities], seed=1)
    direct = {
        **hydra_model,
        "model_id": "direct-small-for-tests",
        "backbone": backbone(["omat"], experts=0, direct=True),
        "heads": {
            "energy": head("DatasetSpecificMoEWrapper", "MLP_Energy_Head", ["omat"]),
            "forces": head("DatasetSpecificMoEWrapper", "Linear_Force_Head", ["omat"]),
        },
    }
    save(folder / "direct.pt", direct, [task("omat", q, SCALE_DIRECT) for q in ("energy", "forces")], seed=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
