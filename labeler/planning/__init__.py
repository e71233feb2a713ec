"""Settings to a plan on disk.

plan.py          the plan, its digest, what is missing
early.py         what can be seen to be wrong before a teacher is loaded
prepare.py       settings to a plan
resume.py        whether the teacher is the one that began a plan
turn.py          who makes the plan, where many labelers start at once
spool.py         the selected structures on disk
spool_sort.py    in the order of the plan, however they come
preflight.py     analytic products against differences, before a run
roughness.py     how rough a teacher's curvature is
differences.py   products by forward differences of forces
batch_size.py    how many pairs a batch may have, measured
checks.py        of structures before labelling, of labels after
symmetry.py      rows of perfect crystals that follow from others
space_group.py   what rotations of a crystal do to its atoms
"""
