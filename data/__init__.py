"""Structures, labels and label sets: what teachers write and students read. Imports nothing else of hdistill."""
