"""torchani's own calculator around its own ensemble class; only the list of weight files, empty in the wheel, is ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def calculator(model: str, task: str | None, dtype: str, device: str) -> Any:
    import torchani
    from torchani import neurochem
    from torchani.models import BuiltinEnsemble

    assert model == "ani-1x"
    resources = Path(torchani.__file__).parent / "resources" / "ani-1x_8x"
    constants = neurochem.Constants(str(resources / "rHCNO-5.2R_16-3.5A_a4-8.params"))
    shifter, free_atoms = neurochem.load_sae(str(resources / "sae_linfit.dat"), return_dict=True)
    ensemble = BuiltinEnsemble(
        species_converter=torchani.SpeciesConverter(constants.species),
        aev_computer=torchani.AEVComputer(**constants),
        neural_networks=neurochem.load_model_ensemble(constants.species, str(resources / "train"), 8),
        energy_shifter=shifter,
        species_to_tensor=constants.species_to_tensor,
        consts=constants,
        sae_dict=free_atoms,
        periodic_table_index=True,
    )
    # As built it is float32, but for the free atoms' energies: casting these would round -3000 eV to 2e-4.
    return (ensemble.double() if dtype == "float64" else ensemble).to(device).ase()
