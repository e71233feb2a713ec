"""Students that come with the package, each a bundle of at most 1 MB in a folder of its own: `HDistillCalculator("organics")`.

They are made by the recipes of the same names in pipelines/recipes/bundles; the README.md of each says what it is for and what not.

index.py    what a bundle's index says, and whether a folder is what was published
remote.py   bundles at an address: pulled, or fetched into the cache
"""

from __future__ import annotations

from pathlib import Path

from hdistill.data.sharing.store import is_address

from .index import BUNDLE

FOLDER = Path(__file__).parent


def names() -> list[str]:
    return sorted(file.parent.name for file in FOLDER.glob(f"*/{BUNDLE}"))


def place_of(path: str | Path) -> Path:
    """The bundle of that name; the one at an address (hf://, s3://, https://, ...), fetched into the cache and checked; the path itself
    where something is there, or no bundle has the name. Raises InputError, RemoteError for an address without a whole bundle."""
    if is_address(path):
        from .remote import fetched

        return fetched(str(path))
    path = Path(path)
    if len(path.parts) == 1 and not path.exists() and (FOLDER / path / BUNDLE).is_file():
        return FOLDER / path
    return path
