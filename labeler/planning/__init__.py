"""Settings to a plan on disk.

plan.py          the plan, its digest, what is missing
prepare.py       settings to a plan
turn.py          who makes the plan, where many labelers start at once
spool.py         the selected structures on disk
preflight.py     analytic products against differences, before a run
checks.py        of structures before labelling, of labels after
symmetry.py      rows of perfect crystals that follow from others
"""
