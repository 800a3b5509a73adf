"""What a manifest says about its run, checked against itself: two legs, each as its own record, that really differed.

The record of each leg (`leg.json`) is put together again from the manifest, and its SHA-256 has to be the invocation id
that its provenance names. So the legs, what they were built from and what each saw cannot contradict each other. Not
checked: that the records tell the truth, and `resolvedDependencies`, which only the lock can tell.
"""

import base64
from collections.abc import Mapping
from typing import Any

from builder.compare.legs import compare_axes, require_varied
from builder.encoding.canonical_json import encode_readable, parse_json
from builder.errors import VerificationError
from builder.model.build_info import BuildInfo
from builder.model.digest import sha256_hex
from builder.model.leg import SCHEMA, LegRecord, encode_leg_record, parse_leg_record
from builder.model.plan import Artifact
from builder.model.variation import VARIATIONS


def check_run(predicate: Mapping[str, Any], artifacts: tuple[Artifact, ...], *, what: str) -> None:
    """VerificationError, NotProvenError or DocumentError for a `run` that contradicts itself or the `release`.

    The predicate fits the schema `release-v1` already.
    """
    run = predicate["run"]
    if set(run["legs"]) != set(VARIATIONS):
        raise VerificationError(f"{what}: the legs are {', '.join(sorted(run['legs']))}, wanted a and b")
    a, b = (_leg(predicate, name, artifacts, f"{what}: leg {name}") for name in sorted(VARIATIONS))
    seen = {axis.axis: (axis.a, axis.b, str(axis.verdict)) for axis in compare_axes(a, b)}
    for axis in run["comparison"]["axes"]:
        found, wanted = (axis["a"], axis["b"], axis["verdict"]), seen.get(axis["axis"])
        if found != wanted:
            raise VerificationError(f"{what}: axis {axis['axis']!r} is said to be {found}, but the legs saw {wanted}")
    require_varied(compare_axes(a, b), run["comparison"]["required_axes"])


def _leg(predicate: Mapping[str, Any], name: str, artifacts: tuple[Artifact, ...], what: str) -> BuildInfo:
    """What leg `name` saw, after its record was found to be the one that its provenance names."""
    release, plan = predicate["release"], predicate["run"]["plan"]["sha256"]
    try:
        details = predicate["run"]["legs"][name]["runDetails"]
        flavour = predicate["run"]["legs"][name]["buildDefinition"]["externalParameters"]["flavour"]
        content = base64.b64decode(details["byproducts"][0]["content"], validate=True)
        invocation = details["metadata"]["invocationId"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise VerificationError(f"{what}: its provenance names no record of what it saw") from error
    info = _build_info(content, what)
    record = LegRecord(release["recipe"]["sha256"], release["lock"]["sha256"], plan, info, artifacts)
    found = f"sha256:{sha256_hex(encode_leg_record(record))}"
    if (info.leg, invocation) != (name, found):
        raise VerificationError(
            f"{what}: it is called {info.leg} and its record has {found}, wanted {name} and {invocation}: what it was"
            " built from, saw or made is not what the manifest says elsewhere"
        )
    if flavour != release["flavour"]:
        raise VerificationError(f"{what}: flavour is {flavour!r}, the release says {release['flavour']!r}")
    return info


def _build_info(content: bytes, what: str) -> BuildInfo:
    """BuildInfo out of a byproduct, by the schema of a leg's record."""
    stand_in = {"component": "kernel", "name": "vmlinuz", "size": 0, "sha256": "0" * 64}
    document = {
        "schema": SCHEMA,
        **dict.fromkeys(("recipe_sha256", "lock_sha256", "plan_sha256"), "0" * 64),
        "build_info": parse_json(content, what=what),
        "artifacts": [stand_in],
        "cached_steps": [],  # a leg that had any has another record, so its invocation id is not the one found here
    }
    return parse_leg_record(encode_readable(document), what=what).build_info
