"""The variable store of a firmware file (CFV): whether it comes with variables (`measurement.md` 5.3).

Its layout is that of edk2's `VariableFormat.h`. Enrolled keys are in there, and change what is measured of the
secure-boot variables; no rule here predicts that.
"""

import uuid

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_NV_DATA = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
_HEADER_LENGTH_OFFSET = 48
_STORE_HEADER = 28
_ERASED = 0xFFFF


def check_no_variables(store: bytes) -> None:
    """DocumentError if a variable, valid or deleted, stands in the store.

    Not checked: a section that does not begin with the volume of a variable store; nothing is known of its content.
    """
    reader = ByteReader(store, "firmware: variable store")
    if len(store) < _HEADER_LENGTH_OFFSET + 2 or reader.guid(16, name="file system") != _NV_DATA:
        return
    first = reader.u16(_HEADER_LENGTH_OFFSET, name="header length") + _STORE_HEADER
    if reader.u16(first, name="first variable") != _ERASED:
        raise DocumentError(
            f"{reader.what}: has variables, such as enrolled keys; wanted an empty one",
            hint="no rule here predicts the secure-boot events of such firmware; take one without keys",
        )
