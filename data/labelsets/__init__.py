"""A label set as a whole.

label_set.py     open, verify, info
writer.py        shards and the manifest, published last
recount.py       every value and count of a set again, for verify
split.py         train, val, test, by hash of the group
stream.py        shuffled, resumable samples
provenance.py    which sets may be put together; what is said of parents
agreement.py     whether two labels of one structure agree
"""
