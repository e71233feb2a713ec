"""Students: energies of atoms from elements and edge vectors, in plain torch, smooth to third order.

painn.py gemnet.py moment.py ace.py    the architectures
harmonics.py     spherical harmonics and products of functions on the sphere
radial.py        radial functions and cutoffs
elements.py      elements as indices
repulsion.py     a fixed wall nearer than atoms ever were
sizes.py         our own students by name
registry.py      every student by name
build.py         makes them
mace.py          MACE, of its own package
packaged.py      which students need a package of their own
outside.py       students that installed packages offer
"""
