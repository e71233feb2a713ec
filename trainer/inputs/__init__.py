"""Samples to what a student sees.

batch.py         flat tensors with a structure index
neighbours.py    neighbour lists
references.py    energies per element
features.py      the teacher's node features
"""
