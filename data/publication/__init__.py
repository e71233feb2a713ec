"""What lies beside a manifest for people and for other programs.

licences.py      what others may do with a set: the stricter of structures and weights
statement.py     what the publisher states
documents.py     README.md and croissant.json, written from manifest and statement
card.py          README.md, as the Hugging Face hub wants it
croissant.py     croissant.json
"""
