import pytest

from builder.attest.statement import encode_statement, statement
from builder.errors import DocumentError
from builder.model.plan import Artifact

TYPE = "https://example.com/predicate/v1"


def artifact(name: str, digit: str = "a") -> Artifact:
    return Artifact("kernel", name, 1, digit * 64)


def test_a_statement_has_the_published_form() -> None:
    assert statement([artifact("vmlinuz")], TYPE, {"x": 1}) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "vmlinuz", "digest": {"sha256": "a" * 64}}],
        "predicateType": TYPE,
        "predicate": {"x": 1},
    }


def test_the_order_of_subjects_does_not_show() -> None:
    one, two = artifact("a"), artifact("b", "b")
    assert encode_statement(statement([two, one], TYPE, {})) == encode_statement(statement([one, two], TYPE, {}))


def test_a_statement_is_one_byte_string() -> None:
    encoded = encode_statement(statement([artifact("a")], TYPE, {"z": "ü", "a": [1, None]}))
    assert encoded == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":[1,null],"z":"\xc3\xbc"},'
        b'"predicateType":"https://example.com/predicate/v1",'
        b'"subject":[{"digest":{"sha256":"' + b"a" * 64 + b'"},"name":"a"}]}'
    )


def test_a_statement_about_nothing_is_not_made() -> None:
    with pytest.raises(DocumentError, match="found none"):
        statement([], TYPE, {})


def test_two_subjects_of_one_name_are_refused() -> None:
    with pytest.raises(DocumentError, match="found a, a"):
        statement([artifact("a"), artifact("a", "b")], TYPE, {})


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "a" * 96, "a" * 64 + "\n"])
def test_a_subject_without_a_sha256_is_refused(digest: str) -> None:
    with pytest.raises(DocumentError, match="subject vmlinuz"):
        statement([Artifact("kernel", "vmlinuz", 1, digest)], TYPE, {})


@pytest.mark.parametrize("value", [1.5, b"bytes", 2**53, float("nan"), {1: 2}, "\ud800"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(DocumentError):
        encode_statement(statement([artifact("a")], TYPE, {"x": value}))
