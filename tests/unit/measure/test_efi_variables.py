"""EFI variables; the published digests are checked in tests/vectors."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EfiVariable,
    SecureBootKeys,
    boot_variables,
    encode_variable_data,
    parse_variable_data,
    secure_boot_keys,
    secure_boot_variables,
)
from builder.model.launch_profile import BootOptions, SecureBootVariable

NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=30)


@given(st.uuids(), NAMES, st.binary(max_size=100))
def test_encoding_and_parsing_are_each_others_reverse(vendor: uuid.UUID, name: str, data: bytes) -> None:
    variable = EfiVariable(vendor, name, data)
    assert parse_variable_data(encode_variable_data(variable)) == variable


ENCODED = encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", b"\0"))


@pytest.mark.parametrize("size", range(len(ENCODED)))
def test_a_truncated_variable_is_refused(size: int) -> None:
    with pytest.raises(DocumentError):
        parse_variable_data(ENCODED[:size])


def test_a_variable_with_trailing_bytes_is_refused() -> None:
    with pytest.raises(DocumentError, match="10 characters and 1 bytes in 54 bytes"):
        parse_variable_data(ENCODED + b"\0")


def test_a_name_that_is_not_utf_16_is_refused() -> None:
    broken = ENCODED[:32] + b"\x00\xd8" * 10 + ENCODED[52:]
    with pytest.raises(DocumentError, match="not UTF-16"):
        parse_variable_data(broken)


def test_secure_boot_variables_are_measured_in_a_fixed_order() -> None:
    for setting in SecureBootVariable:
        names = [variable.name for variable in secure_boot_variables(setting)]
        assert names == ["SecureBoot", "PK", "KEK", "db", "dbx"]


def test_keys_are_measured_under_their_own_names_and_dbt_behind_them() -> None:
    keys = SecureBootKeys(pk=b"1", kek=b"2", db=b"3", dbx=b"4", dbt=b"5")
    variables = secure_boot_variables(SecureBootVariable.ENABLED, keys)
    assert [(variable.name, variable.data) for variable in variables] == [
        ("SecureBoot", b"\x01"),
        ("PK", b"1"),
        ("KEK", b"2"),
        ("db", b"3"),
        ("dbx", b"4"),
        ("dbt", b"5"),
    ]
    assert secure_boot_keys(variables) == keys
    assert secure_boot_keys(()) == SecureBootKeys()


def test_keys_of_another_vendor_are_no_keys() -> None:
    others = [EfiVariable(uuid.UUID(int=1), name, b"key") for name in ("PK", "KEK", "db", "dbx", "dbt")]
    assert secure_boot_keys(others) == SecureBootKeys()


def test_boot_order_lists_exactly_the_options_that_follow() -> None:
    for options in BootOptions:
        order, *entries = boot_variables(options)
        assert [variable.name for variable in entries] == [f"Boot{number:04X}" for number in range(len(entries))]
        assert order.data == b"".join(number.to_bytes(2, "little") for number in range(len(entries)))
