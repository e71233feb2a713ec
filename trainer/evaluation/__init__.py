"""Numbers about a student, no pictures.

errors.py        errors on a split
by_split.py      the same errors on a sample of each split
details.py       how errors spread over elements, structures and strange surroundings
smoothness.py    dimers, the cutoff, extensivity: without anybody's labels
differences.py   energy differences of conformers, and their order
vibrations.py    harmonic frequencies from Hessians
dynamics.py      NVE and NVT: energy drift, and whether the atoms hold together
simulation.py    ensembles, ramps, and a state to go on from
"""
