"""What people look at.

text.py          columns, sizes, durations
label_tables.py  label sets
student_tables.py  fits, errors, simulations
listing_tables.py  teachers, subsets, students, what is installed
rounds.py        what `distill` made
figures.py       pictures
judgement_report.py   the folder that `evaluate -o` makes
judgement_figures.py  its pictures
page.py          its sections, as Markdown and as one HTML page
speed.py         student against teacher by the clock
"""
