"""A teacher in a process and environment of its own.

child_process.py  a child process that cannot hurt its parent
parent.py        starts it, asks with a deadline, says why it failed
child.py         the child's side, run as a script by the teacher's interpreter
wire.py          the messages between them
host.py          keeps a teacher process alive for a worker
memory.py        what a teacher may take, and batches that fit
gpus.py          one GPU for each worker
batching.py      packs of structures
"""
