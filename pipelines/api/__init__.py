"""What `import hdistill` shows: each command as a function that takes names, paths and ASE Atoms and returns a typed result.

distilling.py    distill
labelling.py     label, label_share, estimate
fitting.py       fit, resume, load_student
evaluation.py    evaluate, frequencies
simulation.py    md
demo.py          demo: the whole thing on a real teacher
engines.py       export
bundles.py       push_bundle, pull_bundle
sampling.py      sample
label_sets.py    open_labels, info, verify, merge, subset, audit, import, export, card, push, pull
listings.py      teachers, students, subsets
doctor.py        what is installed here, what is missing and the command that brings it
options.py       the settings of label and fit as keyword arguments
before.py        what is refused before a teacher or torch is loaded
arguments.py     str, Path, Atoms or a result of another call as what the packages below take
results.py       what the functions return
printed.py       how results print, and what --json prints of them
"""
