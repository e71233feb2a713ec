"""A molecule's geometry from its SMILES, through RDKit."""

from __future__ import annotations

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

SEED = 7


def structure_of_smiles(smiles: str) -> Structure:
    """The molecule with its hydrogens, embedded by ETKDG (Riniker and Landrum, J. Chem. Inf. Model. 55, 2562, 2015) and relaxed with
    MMFF94, always the same; charge and spin as the SMILES has them. Raises InputError: no SMILES, no RDKit, no geometry."""
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        raise InputError(
            f"'{smiles}' is not a file; to read it as a SMILES needs RDKit: pip install 'hdistill[smiles]'."
        ) from None
    rdBase.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise InputError(f"'{smiles}' is neither a file that exists nor a SMILES; check the path or the SMILES.")
    molecule = Chem.AddHs(molecule)
    if rdDistGeom.EmbedMolecule(molecule, randomSeed=SEED) != 0:
        raise InputError(f"RDKit finds no geometry for '{smiles}'; give a file with coordinates.")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    import numpy as np

    return Structure(
        numbers=np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.uint8),
        positions=np.array(molecule.GetConformer().GetPositions(), float),
        charge=Chem.GetFormalCharge(molecule),
        spin=1 + unpaired,
        group=Chem.MolToSmiles(Chem.RemoveHs(molecule)),
        info={"smiles": smiles},
    )
