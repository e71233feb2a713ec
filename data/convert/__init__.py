"""Label sets from other things, and other things from label sets.

importing.py     published Hessians as label sets
survey.py        which of them are good, and why the others are not
import_facts.py  what their manifests say
hessians/        one file a format of Hessians
exporting.py     a label set as one file of another format
export_extxyz.py export_ase_db.py export_parquet.py    the formats
merge.py         several label sets as one
cut.py           a label set from part of another
"""
