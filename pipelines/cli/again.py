"""`PYTHON again.py fit labels/ ...` is `hdistill fit labels/ ...` by an interpreter in which hdistill need not be installed."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys


def main() -> None:
    """This very package, from its own folder, whatever that is called."""
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    # Python put this script's folder first: `import fit` must not find the files beside it.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = importlib.util.spec_from_file_location(
        "hdistill", os.path.join(root, "__init__.py"), submodule_search_locations=[root]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["hdistill"] = package
    spec.loader.exec_module(package)
    runpy.run_module("hdistill.pipelines", run_name="__main__")


if __name__ == "__main__":
    main()
