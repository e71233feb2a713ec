"""What a shard and a manifest are, and how a stranger's are read; see docs/format.md.

schema.py        the arrays of a shard, each stated once
manifest.py      manifest.json, read and checked
records.py       what it is made of, each field with its type and limits
migrate.py       manifests of older versions
plausible.py     what can be no structure
codec.py         exact and compact Hessian products
shard.py         samples to arrays and back
shard_file.py    arrays to HDF5 and back, trusting nothing
shard_guard.py   what the structure of a stranger's HDF5 file must satisfy
stored.py        reads the pieces of an array: checksum, inflate, unshuffle
"""
