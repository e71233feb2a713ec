"""Students whose network is another package's, in sizes that come with hdistill. Light to import: neither torch nor the package here.

The package may be in an environment of its own, as teachers' are: a command that needs it is started again there
(pipelines/cli/elsewhere.py), by the family's name.
"""

from __future__ import annotations

from importlib.util import find_spec

from hdistill.data.errors import PackageMissing

from .sizes import StudentSize

PACKAGED = {
    "mace-small": StudentSize("mace", channels=16, layers=2, cutoff=5.0, basis=8, max_l=2, package="mace-torch"),
    "mace-medium": StudentSize(
        "mace", channels=32, layers=2, cutoff=5.0, basis=8, max_l=3, package="mace-torch", options={"hidden_l": 1}
    ),
}
PACKAGES = {"mace": "mace-torch"}  # by architecture, which is the name of the module and of the teachers' family, too


def require(size: StudentSize) -> None:
    """Raises PackageMissing where a student's network is of a package that this interpreter does not have."""
    package = PACKAGES.get(size.architecture)
    if package is not None and find_spec(size.architecture) is None:
        raise PackageMissing(
            f"This student is a {package} model, and {package} is not installed in this interpreter; type `hdistill teachers install "
            f"{size.architecture}`, and the commands of hdistill find it there, or, for Python, `pip install {package}` beside hdistill.",
            size.architecture,
        )
