"""Hessians in: one file a format, each with a READER that `hdistill labels import` finds by itself.

contract.py      what a reader of Hessians is; which one takes a file
layout.py        the orders in which Hessians are stored
checks.py        symmetry, translations, distances: what must hold before a Hessian is stored
arrays.py        named arrays of one structure or of a stack of them
extxyz.py        extended XYZ
hdf5.py          HDF5
pysisyphus.py    HDF5 of pysisyphus
npz.py           numpy archives
fchk.py          formatted checkpoints of Gaussian and Q-Chem
vasprun.py       vasprun.xml of VASP runs with a Hessian
orca.py          ORCA's .hess
turbomole.py     the file `hessian` of Turbomole and xTB
phonopy_files.py  phonopy's files
ase_cache.py     forces of moved atoms as ASE keeps them
ase_vibrations.py  folders of ase.vibrations
ase_vibrations_data.py  JSON of the same
ase_phonons.py   folders of ase.phonons
beside.py        the geometry that a Hessian's own files leave out
minimum.py       forces that nobody wrote down, frequencies that somebody did
printed.py       what outputs for people have in common
nwchem.py        NWChem's output
qchem.py         Q-Chem's output
cp2k.py          CP2K's output
unread.py        formats that are recognised and not read, with what to do
"""
