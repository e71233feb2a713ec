"""The commands over all of it.

drivers.py       what gives forces to sampling: a student, a teacher, a calculator
export.py        a student in the form that an engine loads
frames.py        ASE Atoms as extended XYZ with all digits
live_calculator.py  an ASE calculator of this session as a teacher
recipe.py        settings from TOML recipes and options; recipes/ has those with a name
__main__.py      `python -m hdistill.pipelines` is the same as `hdistill`
"""
