"""The work itself.

chunk.py         the whole life of one chunk
compact.py       chunks to shards and manifest
"""
