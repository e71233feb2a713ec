"""A label set as a whole.

label_set.py     open, verify, info
facts.py         what is known of a set besides its arrays
balance.py       planned = labelled + in quarantine
compose.py       counts and facts to a manifest, cleaned and bounded
writer.py        shards and the manifest, published last
recount.py       every value and count of a set again, for verify
split.py         train, val, test, by hash of the group
stream.py        shuffled, resumable samples
provenance.py    which sets may be put together; what is said of parents
agreement.py     whether two labels of one structure agree
"""
