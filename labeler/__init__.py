"""Runs a teacher once over a chemical subset and writes a label set. May import `hdistill.data` only."""
