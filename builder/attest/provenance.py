"""SLSA provenance v1 of one leg: from what, by what, and how it was built (`formats.md` 4). Pure."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError
from builder.model.build_info import BuildInfo, build_info_document
from builder.model.components import PROD
from builder.model.digest import sha256_hex
from builder.model.leg import LegRecord, encode_leg_record
from builder.model.lock import FILE_NAME as LOCK
from builder.model.lock import Lock, LockedPackage, encode_lock
from builder.model.recipe import FILE_NAME as RECIPE
from builder.model.source_package import ARCHITECTURE as SOURCE

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://tdx-builder.github.io/build-types/leg/v1"
BUILDER = "https://tdx-builder.github.io/builders/{engine}/v1"

_LAST_SECOND = 253402300799  # of the year 9999, the last that RFC 3339 can write
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:")


def leg_provenance(record: LegRecord, lock: Lock, *, flavour: str = PROD) -> dict[str, Any]:
    """The predicate for one leg. DocumentError if the leg was not built from this lock, or left no probe.

    Packages that only other flavours have are no dependencies of this one.
    Only `invocationId`, the two times and what the leg saw are volatile. Not said: which files came out, which is the
    part of the statement that carries this predicate; and that the build can be reproduced (`formats.md` 4.3).
    """
    _check_same_inputs(record, lock)
    info = record.build_info
    recipe, lock_file = _file(RECIPE, record.recipe_sha256), _file(LOCK, record.lock_sha256)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "recipe": recipe,
                "lock": lock_file,
                "variation": info.leg,
                "flavour": flavour,
            },
            "internalParameters": {
                "engine": {"name": info.engine, "version": info.engine_version},
                "plan": {"sha256": record.plan_sha256},
                "axes": _axes(info),
            },
            "resolvedDependencies": [recipe, lock_file, *_dependencies(lock, flavour)],
        },
        "runDetails": {
            "builder": {"id": BUILDER.format(engine=info.engine)},
            "metadata": {
                "invocationId": f"sha256:{sha256_hex(encode_leg_record(record))}",
                "startedOn": rfc3339(info.started),
                "finishedOn": rfc3339(info.finished),
            },
            "byproducts": [_build_info(info)],
        },
    }


def rfc3339(seconds: int) -> str:
    """Seconds since 1970 as RFC 3339 in UTC: `2026-01-01T00:00:00Z`. DocumentError outside the years 1970 to 9999."""
    if not 0 <= seconds <= _LAST_SECOND:
        raise DocumentError(f"time {seconds} is not in the years 1970 to 9999")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def package_url(package: LockedPackage) -> str:
    """The purl of a locked package: `pkg:deb/debian/bash@5.2?arch=amd64&distro=bookworm`; `arch=source` of a source."""
    archive, name, version = (_quote(text) for text in (package.archive, package.name, package.version))
    qualifiers = f"arch={_quote(package.architecture)}&distro={_quote(package.suite)}"
    return f"pkg:deb/{archive}/{name}@{version}?{qualifiers}"


def _check_same_inputs(record: LegRecord, lock: Lock) -> None:
    for name, found, wanted in (
        ("recipe", record.recipe_sha256, lock.recipe_sha256),
        ("lock", record.lock_sha256, sha256_hex(encode_lock(lock))),
    ):
        if found != wanted:
            raise DocumentError(
                f"leg {record.build_info.leg} was built from a {name} with SHA-256 {found}, wanted {wanted}",
                hint="build the leg again",
            )


def _axes(info: BuildInfo) -> dict[str, str]:
    if not info.probes:
        raise DocumentError(f"leg {info.leg} has no probe, so that nothing tells what it saw", hint="build it again")
    return dict(info.probes[0].axes)


def _dependencies(lock: Lock, flavour: str) -> Iterator[dict[str, Any]]:
    """Two tarballs of one source have one purl and different names: their own."""
    unused = {group for group in lock.groups if group.startswith("flavours.")} - {f"flavours.{flavour}"}
    if flavour != PROD:
        unused.add("components.guest_os")
    for key in sorted({key for group in lock.groups.keys() - unused for key in lock.groups[group]}):
        package = lock.packages[key]
        name = package.file_name if package.architecture == SOURCE else package.name
        yield {"name": name, "uri": package_url(package), "digest": {"sha256": package.sha256}}
    for _, file in sorted(lock.files.items()):
        yield {"name": file.name, "uri": file.url, "digest": {"sha256": file.sha256}}
    for path, source in sorted(lock.sources.items()):
        yield _file(path, source.sha256)


def _file(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _build_info(info: BuildInfo) -> dict[str, Any]:
    content = encode_canonical(build_info_document(info))
    return {
        "name": "build-info.json",
        "mediaType": "application/json",
        "content": base64.b64encode(content).decode("ascii"),
        "digest": {"sha256": sha256_hex(content)},
    }


def _quote(text: str) -> str:
    """Percent-encoding as purl wants it: also of `+`, which many Debian versions have, and not of `:`."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode("utf-8"))
