"""What teachers write and students read. Imports nothing else of hdistill.

    structure.py     Structure, Directions, HessianProducts, Labels: the nouns
    hessian.py       THE sign and index convention; products by autograd and by differences
    probes.py        which rows or +-1 probes are labelled: a pure function of seed and structure
    errors.py        the errors a user can cause

Rooms, each of which imports only those above it: support, format, publication, labelsets, sources, convert, sharing.
"""
