"""A student where people simulate.

outputs.py       what an engine asks of a student: energies of atoms, forces, stress, from edge vectors
exported.py      a file that is there whole or not at all, and what is said of it
parity.py        made structures, and how far an export is from the eager float64 student
pt2.py           a student as machine code (.pt2): build, check, load
compiled.py      machine code of a run, kept in the user's cache folder
batched.py       several structures in one call
torchsim.py      a torch-sim model
openmm.py        an OpenMM force
steps.py         dynamics in each engine that is here, to see how fast it is
bundle.py        a student to publish
bundle_push.py   a bundle to an address
metatomic.py     a metatomic model
metatomic_module.py   what TorchScript reads of it
mace_model.py    a MACE student as the package's own .model
lammps.py        a LAMMPS pair style: builds lammps_plugin.cpp
"""
