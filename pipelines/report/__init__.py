"""What people look at.

tables.py        tables
figures.py       pictures
speed.py         student against teacher by the clock
"""
