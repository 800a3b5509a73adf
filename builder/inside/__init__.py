"""Programs that run inside a leg, with the Python of the pinned root and nothing else.

They import only each other, the standard library, and pure modules of this package. `python3 inside/<program>.py`
starts one; its directory is then the first import directory, and `builder` is found there.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent

# what the programs import, as patterns relative to the package
_MODULES = (
    "__init__.py",
    "errors.py",
    "encoding/__init__.py",
    "encoding/canonical_json.py",
    "inside/*.py",
    "normalize/*.py",
)


def leg_files() -> dict[str, Path]:
    """What a workspace holds below `inside/`: the path there -> the file of this package, sorted.

    `<program>.py` is there to be started, `builder/...` to be imported, so the programs are there twice.
    """
    modules = [path for pattern in _MODULES for path in _PACKAGE.glob(pattern)]
    files = {f"builder/{path.relative_to(_PACKAGE)}": path for path in modules}
    files |= {path.name: path for path in (_PACKAGE / "inside").glob("*.py")}
    return dict(sorted(files.items()))
