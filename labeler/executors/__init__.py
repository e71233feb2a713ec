"""Where chunks are labelled.

executor.py      what every executor is
in_process.py    Dask in this process, the local default: threads around teacher processes, no port
pool.py          the teachers of this process
share.py         one share of a plan, for one task of a job array
on_cluster.py    a window of chunks over the workers of a Dask cluster, and the workers' side
cluster.py       a connection to a cluster: jobs of a batch system, or a scheduler's address; TLS
cluster_file.py  what a job is to be, as a TOML file
jobs.py          the jobs themselves, by dask-jobqueue
admission.py     which workers may label
inspection.py    what a worker is asked before it gets work
servers.py       Dask's scheduler and worker without an HTTP server, its log silent
"""
