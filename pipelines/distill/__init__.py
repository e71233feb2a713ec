"""From start structures to a verified force field, in rounds.

settings.py   everything that decides what happens; recipe.toml
start.py      start structures, and what is wrong with them
smiles.py     a molecule from its SMILES
folder.py     the result's folder: what has a record is not done again
around.py     structures around a minimum
relax.py      start structures at the teacher's minimum
first.py      round 0: what the teacher labels before there is a student
teach.py      labels and fits of a round
explore.py    dynamics by the student
minima.py     conformers at the student's own minima
choose.py     which frames the teacher is asked about
measure.py    the student's errors on them, before it learns from them
rounds.py     the rounds, one after the other, until it is good enough
verdict.py    the exam of the student that comes out
report.py     report/
table.py      the table that grows, rounds.csv, pictures
"""
