"""One file a source: each has a READER, and nothing else needs to know of it.

perovskites.py        a built-in subset, no file
spice.py              SPICE's released and input HDF5 files, and its subsets by name
label_sets.py         the structures of a label set
extxyz.py             XYZ and extended XYZ, one frame at a time
ase_databases.py      ASE databases, and SchNetPack's
vasp.py               vasprun.xml, every ionic step that converged
pymatgen_entries.py   lists of pymatgen's ComputedStructureEntry: Alexandria
mptrj.py              MPtrj, and its subsets by name
md_archives.py        MD17, revised MD17 and MD22 as numpy archives
pdb.py                PDB files, if they state elements and one place for every atom
lammps.py             LAMMPS dumps and data files, if they state elements
output_files.py       outputs of quantum chemistry, with the charge and multiplicity that they state
folders.py            every file below a folder
other_files.py        every other file that ASE reads
"""
