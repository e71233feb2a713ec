"""Label sets from other things, and other things from label sets.

importing.py     published Hessians as label sets
exporting.py     to extended XYZ, ASE databases, Parquet
merge.py         several label sets as one
cut.py           a label set from part of another
"""
