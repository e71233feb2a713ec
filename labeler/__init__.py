"""Runs a teacher once over a chemical subset and writes a label set. May import `hdistill.data` only.

    run.py           label(): plan, chunks, shards
    extend.py        more products, or more structures, for a finished set
    audit.py         random structures labelled anew and compared
    estimate.py      time and bytes of a run before it is started

Rooms, each of which imports only those above it: teachers, process, planning, work, executors.
"""
