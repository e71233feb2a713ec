"""Streams label sets and fits students. May import `hdistill.data` only; never loads a teacher or dask.

    choices.py       the words that settings take

Rooms, each of which imports only those above it: students, inputs, force_field, evaluation, fitting.
"""
