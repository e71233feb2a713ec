"""Parts of a report on a student: each a function of a subject that gives plain numbers, kept by what it depends on.

parts.py         names of parts, which are computed, which are read back
judgement.py     errors, twin, parts and verdicts together
subject.py       what is judged, against what, on which structures
reference.py     the teacher as a calculator whose answers are kept
bars.py          what is required of a student, and whether it holds
minimum.py       nearest minima, and how far two of them are apart
labelled.py      errors on labels, smoothness, cost: parts that need no teacher
motion.py        dynamics: what is conserved, what holds together
trajectories.py  where atoms are and how far they go, beside the teacher's own run
speed.py         calls by the clock, interleaved
curvature.py     vibrations of molecules, phonons of crystals
phonons.py       phonopy with any calculator, and beside DFT
relaxation.py    minima, lattice constants, equation of state
elastic.py       elastic constants
distortions.py   errors at rattles and strains
scans.py         bonds, angles and torsions
"""
