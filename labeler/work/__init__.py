"""The work itself.

chunk.py         the whole life of one chunk
bisection.py     one batch asked so that no structure harms another
compact.py       chunks to shards and manifest; the books balance
"""
