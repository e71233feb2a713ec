"""Structures from structures. No model in here: what needs forces asks a function for them.

driver.py        what a function of forces is; a Hessian by its differences
child.py         what a move makes of a structure, and where it came from
world.py         what every move is given
rattle.py        Gaussian displacements
strain.py        cells pressed, pulled and sheared
supercell.py     a cell repeated
modes.py         thermal displacements along normal modes
torsions.py      turns about the bonds of a molecule
dimers.py        pairs along their distance
defects.py       an atom missing, two exchanged
relax.py         the way to a minimum
dynamics.py      replicas at temperatures and pressures, watched
moves.py         every move by name
recipe.py        which moves, with which amounts; recipes/ has those that come along
sample.py        a recipe on start structures
descriptor.py    a cheap description of an atom's surroundings
diverse.py       a few structures out of many that differ most
"""
