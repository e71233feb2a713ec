"""What people look at.

text.py          columns, sizes, durations
label_tables.py  label sets
student_tables.py  fits, errors, simulations
listing_tables.py  teachers, subsets, students, what is installed
rounds.py        what `distill` made
figures.py       pictures
judgement_report.py    the folder that `evaluate -o` makes
sections.py            what it says of errors, smoothness, cost and speed
physical_sections.py   of dynamics, curvature, minima, distortions, scans
judgement_figures.py   pictures of the one
physical_figures.py    and of the other
canvas.py        an empty picture, and one as PNG
page.py          sections as Markdown and as one HTML page
speed.py         student against teacher by the clock
"""
