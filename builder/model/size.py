"""Memory sizes as people write them: `2G`, `512M`, `1T`, always powers of two."""

import re

from builder.errors import DocumentError

_SIZE = re.compile(r"([1-9][0-9]{0,8})([MGT])")
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str, *, what: str) -> int:
    """`512M`, `2G` or `1T` in bytes. DocumentError naming `what` for anything else."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DocumentError(f"{what}: {text!r} is not a memory size", hint="write for example 512M, 2G or 1T")
    return int(match[1]) * _UNITS[match[2]]


def format_size(size: int) -> str:
    """The shortest exact spelling of a memory size in bytes: 2147483648 -> `2G`."""
    if size % _UNITS["G"] == 0:
        return f"{size // _UNITS['G']}G"
    if size % _UNITS["M"] == 0:
        return f"{size // _UNITS['M']}M"
    raise DocumentError(f"memory size {size} is not a whole number of MiB")
