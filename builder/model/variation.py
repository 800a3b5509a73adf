"""Variations: how the two legs differ on purpose, and the axes along which that is proven (`determinism.md` 4).

The axis names are those of reprotest where it has one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from builder.errors import DocumentError

# axis -> code of `determinism.md` 4.1 and 4.2
AXES: Mapping[str, str] = {
    "environment": "V01",
    "build_path": "V02",
    "kernel": "V03",
    "aslr": "V04",
    "num_cpus": "V05",
    "time": "V06",
    "user_group": "V07",
    "fileordering": "V08",
    "domain_host": "V09",
    "home": "V10",
    "locales": "V11",
    "exec_path": "V12",
    "timezone": "V13",
    "umask": "V14",
    "tmpdir": "X02",
}


@dataclass(frozen=True)
class Variation:
    """Everything one leg sets on purpose. Paths are inside the sandbox; `time_offset_days` is relative to the clock.

    With `user_namespaces` programs in the leg may start user namespaces of their own, which takes a capability there
    if the leg's user is root.
    """

    name: str
    build_path: str
    host_name: str
    uid: int
    gid: int
    home: str
    umask: int
    locale: str
    timezone: str
    path: str
    tmpdir: str
    single_cpu: bool
    time_offset_days: int
    old_kernel_release: bool
    aslr: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    user_namespaces: bool = False


VARIATION_A = Variation(
    name="a",
    build_path="/build/a",
    host_name="alpha",
    uid=0,
    gid=0,
    home="/root",
    umask=0o022,
    locale="C",
    timezone="UTC",
    path="/usr/sbin:/usr/bin:/sbin:/bin",
    tmpdir="/tmp",  # noqa: S108 - inside the sandbox, which has its own
    single_cpu=False,
    time_offset_days=0,
    old_kernel_release=False,
    aslr=True,
)

VARIATION_B = Variation(
    name="b",
    build_path="/srv/second-leg/some/longer/build-directory",
    host_name="beta.example.invalid",
    uid=1234,
    gid=4321,
    home="/nonexistent/home-of-leg-b",
    umask=0o077,
    locale="de_DE.UTF-8",
    timezone="GMT-14",
    path="/opt/extra/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    tmpdir="/var/tmp/scratch",  # noqa: S108 - inside the sandbox, which has its own
    single_cpu=True,
    time_offset_days=400,
    old_kernel_release=True,
    aslr=False,
    environment={"CAPTURED_BY": "leg b", "COLUMNS": "213", "MAKEFLAGS": "-j1"},
)


def without_axes(variation: Variation, axes: Iterable[str]) -> Variation:
    """The variation with these axes left alone; DocumentError for one that a step cannot opt out of."""
    for axis in axes:
        if axis != "kernel":
            raise DocumentError(f"axis {axis!r}: no step can opt out of it, only of 'kernel'")
        variation = replace(variation, old_kernel_release=False)
    return variation


VARIATIONS: Mapping[str, Variation] = {"a": VARIATION_A, "b": VARIATION_B}
