"""Small MACE checkpoints, made in seconds under the e3nn that reads all released ones. Run by the mace family's interpreter:

    python tests/labeler/checkpoints/mace.py OUTPUT_DIR

    OUTPUT_DIR/small.model          ScaleShiftMACE, H C N O Mg Ti Sr, one head
    OUTPUT_DIR/two_heads.model      the same size, heads pbe and r2scan, H C N O
    OUTPUT_DIR/cache/mace/...       small.model under the names that mace_mp("small") and mace_off("small") look for,
                                    so that XDG_CACHE_HOME=OUTPUT_DIR/cache runs the real loaders without a network

Weights are random with fixed seeds; SCALE gives forces and curvature the size of real ones (|H| up to some 20 eV/A^2).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

SCALE = 20.0  # eV; with random weights and scale 1 the largest |H| is about 0.4 eV/A^2
R_MAX = 5.0  # A
# Energies of free atoms, eV: as large as those of all-electron references, so that float32 sums show their rounding.
FREE_ATOMS = {1: -13.6, 6: -1029.3, 7: -1484.9, 8: -2042.0, 12: -200.1, 22: -1580.6, 38: -867.2}
HEADS = ("pbe", "r2scan")


def make(elements: tuple[int, ...], heads: tuple[str, ...], seed: int) -> Any:
    """A ScaleShiftMACE in float64, as released models are; several heads differ in their energies and scales."""
    import numpy as np
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    factors = 1.0 + 0.25 * np.arange(len(heads))
    free = np.array([FREE_ATOMS[z] for z in elements])
    interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=R_MAX,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=interaction,
        interaction_cls_first=interaction,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps("16x0e + 16x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.outer(factors, free) if len(heads) > 1 else free,
        avg_num_neighbors=12.0,
        atomic_numbers=list(elements),
        correlation=2,
        gate=torch.nn.functional.silu,
        heads=list(heads),
        atomic_inter_scale=SCALE * factors if len(heads) > 1 else SCALE,
        atomic_inter_shift=0.1 * factors if len(heads) > 1 else 0.1,
    )


def main(folder: Path) -> None:
    # The folder of this script comes first on the path, where `import mace` would find this very file.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    import torch
    from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls

    cache = folder / "cache" / "mace"
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(make((1, 6, 7, 8, 12, 22, 38), ("Default",), seed=1), folder / "small.model")
    torch.save(make((1, 6, 7, 8), HEADS, seed=2), folder / "two_heads.model")
    mp = "".join(c for c in os.path.basename(mace_mp_urls["small"]) if c.isalnum() or c == "_")
    for name in (mp, os.path.basename(mace_off_urls["small"])):
        shutil.copyfile(folder / "small.model", cache / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
