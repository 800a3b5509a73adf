"""A cause is named from the bytes of both sides, and never without them (`determinism.md` 5)."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.compare.causes.evidence import NO_EVIDENCE, Evidence, KnownLeg, evidence_of_legs
from builder.compare.causes.rules import cause_of_run
from builder.compare.diff import differing_runs
from builder.compare.source import in_memory
from builder.model.comparison import Cause, CauseName, Confidence, DifferenceKind
from builder.model.variation import VARIATION_A, VARIATION_B
from tests.fakes.archives import ENTRIES, Entry, changed, cpio_archive, tar_of
from tests.unit.compare.conftest import AXES_A, AXES_B, SHIFT, STARTED, Explain, known_leg

IN_A = STARTED + 60
IN_B = STARTED + 90 + SHIFT


def cause_of(a: bytes, b: bytes, evidence: Evidence) -> Cause:
    left, right = in_memory(a), in_memory(b)
    runs, _ = differing_runs(left, right)
    return cause_of_run(left, right, runs[0], evidence)


def text(form: str, *, a: int = IN_A, b: int = IN_B) -> tuple[bytes, bytes]:
    left, right = (datetime.fromtimestamp(time, UTC).strftime(form).encode() for time in (a, b))
    return left, right


CATALOGUE = [
    ("ND-A01 seconds", text("%s"), CauseName.CLOCK),
    ("ND-A02 day", text("%F\n"), CauseName.CLOCK),
    ("ND-A03 __DATE__ __TIME__", text("char t[] = '%b %e %Y%H:%M:%S'"), CauseName.CLOCK),
    (
        "ND-A16 days since 1970",
        (b"root:*:%d:0:9" % (IN_A // 86400), b"root:*:%d:0:9" % (IN_B // 86400)),
        CauseName.CLOCK,
    ),
    (
        "ND-A20 PE timestamp",
        (struct.pack("<4sI", b"\x64\x86\6\0", IN_A), struct.pack("<4sI", b"\x64\x86\6\0", IN_B)),
        CauseName.CLOCK,
    ),
    ("ND-A21 created", text('{"created":"%FT%TZ"}'), CauseName.CLOCK),
    ("64-bit big-endian", (struct.pack(">Q", IN_A), struct.pack(">Q", IN_B)), CauseName.CLOCK),
    ("a clock that was not shifted", (struct.pack("<I", IN_A), struct.pack("<I", IN_A + 5)), CauseName.CLOCK),
    ("ND-B01 local hour", (b"2023-11-14.22", b"2023-11-15.12"), CauseName.TIMEZONE),
    ("ND-B04 zone", (b"1700000000 +0000", b"1700000000 +1400"), CauseName.TIMEZONE),
    (
        "local time as a number",
        (struct.pack("<I", 1_700_000_000), struct.pack("<I", 1_700_050_400)),
        CauseName.TIMEZONE,
    ),
    ("ND-B05 date in German", (b"Tue Nov 14 22:13:20 UTC 2023", b"Di 14. Nov 22:13:20 UTC 2023"), CauseName.LOCALE),
    ("ND-B06 sort order", (b"Alpha\nZeta\nbeta\n", b"Alpha\nbeta\nZeta\n"), CauseName.LOCALE),
    ("ND-B08 grouping", (b"total 1234567 bytes", b"total 1.234.567 bytes"), CauseName.LOCALE),
    ("locale name", (b"LC_ALL=C;", b"LC_ALL=de_DE.UTF-8;"), CauseName.LOCALE),
    ("ND-C01 host name", (b"built on alpha today", b"built on beta.example.invalid today"), CauseName.HOSTNAME),
    ("ND-C02 uid", (b"uid=0;", b"uid=1234;"), CauseName.USER),
    ("ND-C06 home", tuple(f"prefix={leg.home}/.local".encode() for leg in (VARIATION_A, VARIATION_B)), CauseName.PATH),
    ("ND-C07 PATH", (VARIATION_A.path.encode(), VARIATION_B.path.encode()), CauseName.PATH),
    ("ND-C09 environment", (b"LANG=x\n", b"CAPTURED_BY=leg b\nLANG=x\n"), CauseName.ENVIRONMENT),
    ("ND-C10 TMPDIR", (b"in /tmp/file", b"in /var/tmp/scratch/file"), CauseName.PATH),
    ("ND-C13 build path", (b"\0/build/a/m.c\0", b"\0%b/m.c\0" % VARIATION_B.build_path.encode()), CauseName.PATH),
    (
        "build path in UTF-16",
        tuple(v.build_path.encode("utf-16-le") for v in (VARIATION_A, VARIATION_B)),
        CauseName.PATH,
    ),
    ("ND-C19 kernel release", (b"on 6.1.0-42-amd64\n", b"on 2.6.61-42-amd64\n"), CauseName.KERNEL_RELEASE),
    ("ND-C21 mode as text", (b"644\n", b"600\n"), CauseName.UMASK),
    ("ND-B10 mode in ls -l", (b"-rwxr-xr-x 1 x", b"-rwx------ 1 x"), CauseName.UMASK),
    ("ND-D01 listing", (b"tree/b\ntree/c\ntree/a\n", b"tree/c\ntree/b\ntree/a\n"), CauseName.ORDER),
    ("ND-D09 words", (b"13 8 5 17", b"5 17 13 8"), CauseName.ORDER),
    (
        "ND-E01 salt",
        (bytes.fromhex("9f1c0a7be25d4438c6b1e09372fa5d8e"), bytes.fromhex("36d87e01a94fc25b10e7943d6ac8b2f5")),
        CauseName.RANDOM,
    ),
    ("a UUID", (b"0d4f7ac3-b1e2-4689-a5c7-d8e9f01b2a3c", b"f3a81c5e-2790-4bd6-81e4-b39c805d7f62"), CauseName.RANDOM),
    ("ND-E08 temporary name", (b"open /srv/tmp.8fKq2LmXzA", b"open /srv/tmp.Yw03RtVbNe"), CauseName.RANDOM),
    ("ND-E10 process id in pax headers", (b"./PaxHeaders.4711/f", b"./PaxHeaders.4712/f"), CauseName.PID),
    ("milliseconds", text("t=%s123;"), CauseName.CLOCK),
    ("nanoseconds", text("t=%s123456789;"), CauseName.CLOCK),
    ("ND-F01 CPU count", (b"jobs 16\n", b"jobs 1\n"), CauseName.CPU_COUNT),
]


@pytest.mark.parametrize(("sides", "name"), [entry[1:] for entry in CATALOGUE], ids=[entry[0] for entry in CATALOGUE])
def test_the_cause_is_named(legs: Evidence, sides: tuple[bytes, bytes], name: CauseName) -> None:
    cause = cause_of(*sides, legs)
    assert cause.name is name, cause
    assert cause.confidence is not Confidence.NONE
    assert cause.evidence


NEEDS_LEGS = {
    CauseName.HOSTNAME, CauseName.PATH, CauseName.USER, CauseName.LOCALE, CauseName.TIMEZONE, CauseName.UMASK,
    CauseName.CPU_COUNT, CauseName.ENVIRONMENT, CauseName.KERNEL_RELEASE,
}  # fmt: skip


@pytest.mark.parametrize(
    ("sides", "name"),
    [entry[1:] for entry in CATALOGUE if entry[2] in NEEDS_LEGS],
    ids=[entry[0] for entry in CATALOGUE if entry[2] in NEEDS_LEGS],
)
def test_no_cause_of_the_legs_is_named_for_sides_of_unknown_origin(sides: tuple[bytes, bytes], name: CauseName) -> None:
    assert cause_of(*sides, NO_EVIDENCE).name is not name


WITHOUT_CAUSE = [
    ("one flipped bit", b"configuration", b"configuraTion"),
    ("other words", b"with-x\n", b"without-x\n"),
    ("only side A shows its host", b"on alpha today", b"on gamma today"),
    ("only side B shows its host", b"on gamma", b"on beta.example.invalid"),
    ("the legs' hosts on the wrong sides", b"on beta.example.invalid", b"on alpha"),
    ("the host elsewhere on both sides", b"alpha 1", b"alpha 2"),
    ("numbers that hold a uid", b"x12340", b"x12341"),
    ("a time when no leg ran", struct.pack("<I", 1_600_000_000), struct.pack("<I", 1_600_000_009)),
    ("a day when no leg ran", b"2001-02-03", b"2001-02-04"),
    ("one side in its leg's time", struct.pack("<I", IN_A), struct.pack("<I", 1_600_000_009)),
    ("no date", b"2023-13-45", b"2023-13-46"),
    ("a mode that no umask makes", b"644\n", b"640\n"),
    ("a mode with more bits in B", b"600\n", b"644\n"),
    ("other lines", b"a\nb\nc\n", b"a\nc\nd\n"),
    ("short noise", b"\x91\x07\xe2", b"\x3c\xb8\x55"),
    ("instructions", b"\x48\x89\xc7\xe8\x10\x00\x00\x00", b"\x48\x89\xc7\xe8\x20\x00\x00\x00"),
    ("bytes filled with one value", b"\x00" * 32, b"\xff" * 32),
    ("fewer repetitions", b"aaaaaaaaaaaaaaaa", b"aaaaaaaaaaaaaaaaaaaaaaaa"),
    ("a month in both", b"Tue Nov 14", b"Wed Dec 20"),
    ("a version", b"lib 2.16", b"lib 2.1"),
    ("one byte of a binary", b"\x00\x0016\x00\x00", b"\x00\x001\x00\x00\x00"),
    ("a long decimal", b"id 1203948571203948", b"id 9857120394857102"),
    ("other digits", b"1234567", b"1.234.568"),
]


@pytest.mark.parametrize(("a", "b"), [entry[1:] for entry in WITHOUT_CAUSE], ids=[entry[0] for entry in WITHOUT_CAUSE])
def test_no_cause_is_named_without_evidence(legs: Evidence, a: bytes, b: bytes) -> None:
    assert cause_of(a, b, legs).name is CauseName.UNKNOWN


@given(st.binary(min_size=1, max_size=300), st.integers(0, 299), st.integers(1, 255))
def test_one_changed_byte_of_anything_is_not_called_random(data: bytes, place: int, mask: int) -> None:
    other = bytearray(data)
    other[place % len(data)] ^= mask
    assert cause_of(data, bytes(other), NO_EVIDENCE).name is not CauseName.RANDOM


def test_compressed_data_is_not_called_random(legs: Evidence) -> None:
    a = b"".join(struct.pack(">Q", pow(3, n, 2**64 - 59)) for n in range(2000))
    b = b"".join(struct.pack(">Q", pow(5, n, 2**64 - 59)) for n in range(2000))
    assert cause_of(a, b, legs).name is CauseName.UNKNOWN


def test_an_axis_that_the_engine_left_alone_is_never_the_cause() -> None:
    evidence = evidence_of_legs(
        known_leg(VARIATION_A, AXES_A), known_leg(VARIATION_B, AXES_B, domain_host="no", umask="no")
    )
    assert cause_of(b"on alpha today", b"on beta.example.invalid today", evidence).name is CauseName.UNKNOWN
    assert cause_of(b"644\n", b"600\n", evidence).name is CauseName.UNKNOWN


def test_without_the_record_of_a_leg_its_clock_is_not_known() -> None:
    evidence = evidence_of_legs(KnownLeg(VARIATION_A), KnownLeg(VARIATION_B))
    assert cause_of(struct.pack("<I", IN_A), struct.pack("<I", IN_B), evidence).name is CauseName.UNKNOWN
    assert cause_of(b"on alpha", b"on beta.example.invalid", evidence).name is CauseName.HOSTNAME


def test_dates_as_text_are_a_clock_even_for_sides_of_unknown_origin() -> None:
    cause = cause_of(b"at 2026-01-02T03:04:05Z", b"at 2026-01-02T03:04:09Z", NO_EVIDENCE)
    assert (cause.name, cause.confidence) == (CauseName.CLOCK, Confidence.MEDIUM)


def test_short_values_are_weak_evidence(legs: Evidence) -> None:
    assert cause_of(b"jobs 16\n", b"jobs 1\n", legs).confidence is Confidence.LOW
    assert cause_of(b"on alpha", b"on beta.example.invalid", legs).confidence is Confidence.HIGH


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        (({"mode": 0o100644}, {"mode": 0o100600}), DifferenceKind.MODE, CauseName.UMASK),
        (({"mode": 0o100755}, {"mode": 0o100700}), DifferenceKind.MODE, CauseName.UMASK),
        (({"mode": 0o100644}, {"mode": 0o100640}), DifferenceKind.MODE, CauseName.UNKNOWN),
        (({"mode": 0o100644}, {"mode": 0o120600}), DifferenceKind.MODE, CauseName.UNKNOWN),
        (({"mtime": IN_A}, {"mtime": IN_B}), DifferenceKind.MTIME, CauseName.CLOCK),
        (({"mtime": 1_700_000_000}, {"mtime": 1_700_050_400}), DifferenceKind.MTIME, CauseName.TIMEZONE),
        (({"mtime": 1}, {"mtime": 2}), DifferenceKind.MTIME, CauseName.UNKNOWN),
        (({"uid": 0}, {"uid": 1234}), DifferenceKind.OWNER, CauseName.USER),
        (({"uid": 0}, {"uid": 4321}), DifferenceKind.OWNER, CauseName.UNKNOWN),
        (({"gid": 0}, {"gid": 4321}), DifferenceKind.OWNER, CauseName.USER),
        (({"ino": 5}, {"ino": 6}), DifferenceKind.OTHER, CauseName.FILE_SYSTEM),
    ],
)
def test_causes_of_metadata(
    explained: Explain,
    legs: Evidence,
    changes: tuple[dict[str, int], dict[str, int]],
    kind: DifferenceKind,
    name: CauseName,
) -> None:
    a, b = (cpio_archive(changed("etc/hostname", **change)) for change in changes)
    (found,) = explained(a, b, evidence=legs).differences
    assert (found.kind, found.cause.name) == (kind, name)


def test_a_time_field_alone_is_less_than_a_leg_that_ran_then(explained: Explain, legs: Evidence) -> None:
    sides = [tar_of(changed("init", mtime=time)) for time in (IN_A, IN_B)]
    (known,) = explained(*sides, evidence=legs).differences
    (unknown,) = explained(*sides).differences
    assert (known.cause.confidence, unknown.cause.confidence) == (Confidence.HIGH, Confidence.MEDIUM)


def test_a_member_named_after_the_host(explained: Explain, legs: Evidence) -> None:
    a, b = (cpio_archive((*ENTRIES, Entry(f"var/{host}.log", b"x"))) for host in ("alpha", "beta.example.invalid"))
    found = explained(a, b, evidence=legs).differences
    assert [difference.kind for difference in found] == [DifferenceKind.ONLY_IN_A, DifferenceKind.ONLY_IN_B]
    assert {difference.cause.name for difference in found} == {CauseName.HOSTNAME}


def test_a_member_that_holds_the_host_name_without_a_counterpart_has_no_cause(
    explained: Explain, legs: Evidence
) -> None:
    a = cpio_archive((*ENTRIES, Entry("var/alpha.log", b"x")))
    (found,) = explained(a, cpio_archive(), evidence=legs).differences
    assert found.cause.name is CauseName.UNKNOWN


def test_several_causes_in_one_member_are_all_named(explained: Explain, legs: Evidence) -> None:
    sides = [
        b"host %-20s" % host + b"." * 40 + b"time %d" % time + b"." * 40 + b"bit %b." % bit
        for host, time, bit in ((b"alpha", IN_A, b"x"), (b"beta.example.invalid", IN_B, b"y"))
    ]
    found = explained(*sides, evidence=legs).differences
    assert [difference.cause.name for difference in found] == [CauseName.HOSTNAME, CauseName.CLOCK, CauseName.UNKNOWN]
