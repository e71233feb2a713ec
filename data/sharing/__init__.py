"""Label sets elsewhere.

failures.py      what goes wrong elsewhere, in one sentence each
store.py         one place, near or far: read, write, try again
remote.py        sets opened at an address
push_pull.py     push and pull
cache.py         shards of remote sets on this disk
"""
