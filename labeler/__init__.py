"""Runs a teacher once over a chemical subset and writes a label set. May import `hdistill.data` only.

    run.py           label(): plan, run_plan(plan, executor), shards
    extend.py        more products, or more structures, for a finished set
    joining.py       the arrays of a set and of a pass, put together
    audit.py         random structures labelled anew and compared
    estimate.py      time and bytes of a run before it is started
    teacher_calculator.py    any teacher as an ASE calculator

Rooms, each of which imports only those above it: teachers, process, planning, work, executors.
"""
