"""What people look at.

tables.py        tables
rounds.py        what `distill` made
figures.py       pictures
judgement_report.py   the folder that `evaluate -o` makes
judgement_figures.py  its pictures
page.py          its sections, as Markdown and as one HTML page
speed.py         student against teacher by the clock
"""
