"""What is known about the two legs, as byte values to look for in what they made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from builder.model.build_info import BuildInfo
from builder.model.comparison import CauseName
from builder.model.variation import Variation

_DAY = 86400
_SLACK = 5  # seconds around a leg: clocks are read in whole seconds
_POSIX_ZONE = re.compile(r"[A-Za-z]{3,}([+-]\d{1,2})")
_NUMERIC_ZONE = re.compile(r"([+-])(\d\d)(\d\d)")


@dataclass(frozen=True)
class KnownValue:
    """A property of the environment that was not the same in both legs, as its bytes on each side.

    `a` is empty where only leg B sets it (an additional environment variable).
    """

    cause: CauseName
    what: str
    a: bytes
    b: bytes


@dataclass(frozen=True)
class LegEvidence:
    """What is known about one leg. Clock windows are seconds since 1970, both ends included; `zone` is seconds east."""

    clock: tuple[tuple[int, int], ...] = ()
    umask: int | None = None
    uid: int | None = None
    gid: int | None = None
    zone: int | None = None

    def saw(self, time: int) -> bool:
        """Whether the leg's clock showed this time while it ran."""
        return any(start <= time <= end for start, end in self.clock)


@dataclass(frozen=True)
class Evidence:
    """What is known about both legs. Empty for two sides of unknown origin."""

    values: tuple[KnownValue, ...] = ()
    a: LegEvidence = field(default_factory=LegEvidence)
    b: LegEvidence = field(default_factory=LegEvidence)


NO_EVIDENCE = Evidence()


@dataclass(frozen=True)
class KnownLeg:
    """A leg's variation, and the record of what it saw where there is one."""

    variation: Variation
    info: BuildInfo | None = None

    def varied(self, axis: str) -> bool:
        """Whether the engine could apply this axis."""
        return self.info is None or axis not in self.info.not_varied

    def axis(self, name: str) -> str:
        """What the leg saw along an axis at its end; empty if that is not known."""
        return self.info.probes[-1].axes.get(name, "") if self.info and self.info.probes else ""

    def fact(self, name: str) -> str:
        """A fact the leg recorded at its end; empty if that is not known."""
        return self.info.probes[-1].facts.get(name, "") if self.info and self.info.probes else ""


def evidence_of_legs(a: KnownLeg, b: KnownLeg) -> Evidence:
    """Everything in which the legs differ and that could be seen in their artefacts.

    An axis that one of the engines could not apply is left out: it cannot be the cause.
    """
    values = [value for axis, value in _values(a, b) if a.varied(axis) and b.varied(axis)]
    known = tuple(dict.fromkeys(value for value in values if value.a != value.b and value.b))
    return Evidence(known, _leg_evidence(a), _leg_evidence(b))


def _values(a: KnownLeg, b: KnownLeg) -> Iterator[tuple[str, KnownValue]]:
    """Candidates with their axis, the most telling first."""
    left, right = a.variation, b.variation
    texts = (
        ("build_path", CauseName.PATH, "build path", left.build_path, right.build_path),
        ("build_path", CauseName.PATH, "build path", a.axis("build_path"), b.axis("build_path")),
        ("home", CauseName.PATH, "home directory", left.home, right.home),
        ("exec_path", CauseName.PATH, "search path", left.path, right.path),
        ("tmpdir", CauseName.PATH, "temporary directory", left.tmpdir, right.tmpdir),
        ("domain_host", CauseName.HOSTNAME, "host name", left.host_name, right.host_name),
        ("kernel", CauseName.KERNEL_RELEASE, "kernel release", a.axis("kernel"), b.axis("kernel")),
        ("locales", CauseName.LOCALE, "locale", left.locale, right.locale),
        ("timezone", CauseName.TIMEZONE, "time zone", left.timezone, right.timezone),
        ("timezone", CauseName.TIMEZONE, "time zone offset", a.axis("timezone"), b.axis("timezone")),
        ("user_group", CauseName.USER, "user id", str(left.uid), str(right.uid)),
        ("user_group", CauseName.USER, "group id", str(left.gid), str(right.gid)),
        ("umask", CauseName.UMASK, "umask", f"{left.umask:04o}", f"{right.umask:04o}"),
        ("boot_id", CauseName.ENVIRONMENT, "boot id", a.fact("boot_id"), b.fact("boot_id")),
        ("cpu_model", CauseName.ENVIRONMENT, "CPU model", a.fact("cpu_model"), b.fact("cpu_model")),
        ("num_cpus", CauseName.CPU_COUNT, "number of CPUs", *_cpu_counts(a, b)),
    )
    for axis, cause, what, text_a, text_b in texts:
        if text_a:
            yield axis, KnownValue(cause, what, text_a.encode(), text_b.encode())
    for name in sorted(right.environment):
        value = left.environment.get(name, "")
        yield "environment", KnownValue(CauseName.ENVIRONMENT, name, value.encode(), right.environment[name].encode())


def _cpu_counts(a: KnownLeg, b: KnownLeg) -> tuple[str, str]:
    """The first number in the axis: the count by affinity."""
    left, right = (re.search(r"\d+", leg.axis("num_cpus")) for leg in (a, b))
    return (left[0], right[0]) if left and right else ("", "")


def _leg_evidence(leg: KnownLeg) -> LegEvidence:
    variation = leg.variation
    user = leg.varied("user_group")
    return LegEvidence(
        clock=_clock(leg),
        umask=variation.umask if leg.varied("umask") else None,
        uid=variation.uid if user else None,
        gid=variation.gid if user else None,
        zone=_zone(leg.axis("timezone") or variation.timezone) if leg.varied("timezone") else None,
    )


def _clock(leg: KnownLeg) -> tuple[tuple[int, int], ...]:
    """While the leg ran, by the real clock and by the shifted one: a shift does not reach every program
    (`determinism.md` 4.3 no. 7)."""
    if leg.info is None:
        return ()
    start, end = leg.info.started - _SLACK, leg.info.finished + _SLACK
    shift = leg.variation.time_offset_days * _DAY
    return ((start, end), (start + shift, end + shift)) if shift else ((start, end),)


def _zone(text: str) -> int | None:
    """Seconds east of UTC of `+1400`, `UTC` or `GMT-14` (POSIX counts west); None for names that need a database."""
    if numeric := _NUMERIC_ZONE.fullmatch(text):
        seconds = int(numeric[2]) * 3600 + int(numeric[3]) * 60
        return -seconds if numeric[1] == "-" else seconds
    if text in ("UTC", "GMT"):
        return 0
    posix = _POSIX_ZONE.fullmatch(text)
    return -int(posix[1]) * 3600 if posix else None
