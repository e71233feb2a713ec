"""Where chunks are labelled.

over_dask.py     a window of chunks over Dask workers, and the workers' side
cluster.py       local workers, jobs of a batch system, or a scheduler's address
jobs.py          cluster files (TOML), and jobs by dask-jobqueue
admission.py     which workers may label, and why not
share.py         one share of a plan, for a job array, without a scheduler
"""
