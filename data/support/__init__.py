"""Small things that the other rooms stand on, without any chemistry.

publish.py       files that are complete or absent
progress.py      bars on a terminal, lines elsewhere
strict_json.py   JSON within limits
typed.py         JSON as typed records
digest_set.py    a set of hashes, compact
checked.py       types and bounds of settings
recent.py        a bounded cache of what was used last
text.py          text that others wrote, fit to be stored and shown
recursion.py     the limit of recursion, put back
private.py       folders that this user alone can write
"""
