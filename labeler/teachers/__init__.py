"""Teachers by name, and one adapter a family, imported in the teacher process only.

contract.py      what a teacher is asked and what it answers
registry.py      teachers by name, licences, requirements
environments.py  which interpreter has which teacher; makes them
geometry.py      one geometry for all packages
about.py         what an adapter says of itself
light.py         processes that hold no model do without PyTorch
lennard_jones.py sevennet.py chgnet.py mace.py fairchem.py torchani.py ase.py    the adapters
outside.py       what other packages offer, students among it
"""
