"""Releases of edk2: the quarterly stable tags, by which the rules of `measurement.md` 5.1 are told apart."""

import re

from builder.errors import DocumentError

NEWEST = "202608"  # the newest whose rules were looked at

_TAG = re.compile(r"20[0-9]{2}(?:02|05|08|11)")


def checked_edk2(tag: str) -> str:
    """The tag `YYYYMM` itself, such as 202502 for edk2-stable202502.

    DocumentError for what is no stable tag, and for one after NEWEST: what it measures is not known.
    """
    if not _TAG.fullmatch(tag):
        raise DocumentError(
            f"edk2 tag {tag!r} is not of the form YYYYMM of a stable release, with month 02, 05, 08 or 11",
            hint="write 202502 for edk2-stable202502; of a build between two tags, the earlier one",
        )
    if tag > NEWEST:
        raise DocumentError(
            f"edk2 {tag}: the newest release whose rules are known is {NEWEST}",
            hint=f"state {NEWEST} if you know that it measures the same",
        )
    return tag
