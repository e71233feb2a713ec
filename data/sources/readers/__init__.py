"""One file a source: each has a READER, and nothing else needs to know of it.

perovskites.py        a built-in subset, no file
spice.py              SPICE's released and input HDF5 files, and its subsets by name
label_sets.py         the structures of a label set
extxyz.py             XYZ and extended XYZ, one frame at a time
ase_databases.py      ASE databases, and SchNetPack's
pdb.py                PDB files, if they state elements and one place for every atom
lammps.py             LAMMPS dumps and data files, if they state elements
output_files.py       outputs of quantum chemistry, with the charge and multiplicity that they state
other_files.py        every other file that ASE reads
"""
