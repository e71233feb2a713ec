"""The commands over all of it; each is also a plain Python function here."""
