"""`hdistill md`.

run.py           from a student and a start to a folder; replicas
settings.py      what is asked for
loop.py          atoms that move, and what is written of them
files.py         the folder: log, restart, summary
trajectory.py    the forms of trajectories
"""
