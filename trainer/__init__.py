"""Streams label sets and fits students. May import `hdistill.data` only; never loads a teacher or dask."""
