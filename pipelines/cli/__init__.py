"""The command line, one file a command group. Each command calls the function of the same name in pipelines/api/.

main.py          hdistill
distill.py       hdistill distill
label.py         hdistill label
fit.py           hdistill fit
judge.py         hdistill evaluate
md.py            hdistill md
sample.py        sample
export.py        hdistill export
labels.py        hdistill labels ...
sharing.py       hdistill labels card, push, pull
listings.py      hdistill teachers, students, subsets, doctor, demo
bundles.py       hdistill students push, pull
clusters.py      hdistill clusters ...
elsewhere.py     a command that needs a package of another environment
again.py         the same command, by the interpreter of that environment
command.py       what all commands share: errors in one sentence, exit codes
"""
