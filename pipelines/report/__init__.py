"""What people look at.

tables.py        tables
rounds.py        what `distill` made
figures.py       pictures
speed.py         student against teacher by the clock
"""
