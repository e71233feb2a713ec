"""Label sets elsewhere.

store.py         one place, near or far: read, write, try again, say what is wrong
push_pull.py     push, pull, and sets opened at an address
cache.py         shards of remote sets on this disk
"""
