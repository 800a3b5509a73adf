"""Where a locked package can be had from. Only its digest is part of the pin; these addresses are this machine's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from builder.errors import DocumentError, MissingError
from builder.model.lock import LockedPackage

SNAPSHOT_TIME = "%Y%m%dT%H%M%SZ"
# The snapshot archive records an archive's state some hours after its Release file was dated; asked for a time, it
# answers with the state before it. So a package that was new in that very Release is found only a little later.
_SNAPSHOT_DELAY = timedelta(days=1)


@dataclass(frozen=True)
class Locations:
    """Mirror addresses by archive name, in the order to try them, and the base of a snapshot archive if one is known.

    `notes` say why something is not known, for the error of a fetch that fails for it.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snapshot: str | None = None
    notes: tuple[str, ...] = ()

    def mirror(self, archive: str) -> str:
        """The first mirror of `archive`; MissingError with the next step if none is known."""
        mirrors = self.mirrors.get(archive, ())
        if not mirrors:
            notes = "".join(f"; {note}" for note in self.notes)
            option = "URL" if archive == "debian" else f"{archive}=URL"
            raise MissingError(
                f"no mirror of the archive {archive!r} is known on this host{notes}",
                hint=f"name one: --mirror {option}",
            )
        return mirrors[0]

    @property
    def hint(self) -> str:
        """The next step when a fetch failed at every address."""
        if self.snapshot is None:
            return "packages leave mirrors in time: name a snapshot archive with --snapshot URL or TDX_BUILDER_SNAPSHOT"
        return "name another mirror with --mirror URL, or import the inputs with `fetch --from ARCHIVE`"

    def urls(self, package: LockedPackage) -> tuple[str, ...]:
        """The addresses to try in order: `{mirror}/{path}`, then `{snapshot}/archive/{archive}/{timestamp}/{path}`."""
        path = package.path.replace("+", "%2B")  # the one character of a locked path that some servers take for another
        urls = [f"{mirror}/{path}" for mirror in self.mirrors.get(package.archive, ())]
        if self.snapshot is not None:
            base = f"{self.snapshot}/archive/{package.archive}"
            urls += [f"{base}/{time}/{path}" for time in (package.snapshot, _later(package.snapshot))]
        return tuple(urls)


def without_credentials(url: str) -> str:
    """An address as it may be printed or compared: without user name and password."""
    return re.sub(r"^([a-z+]+://)[^/]*@", r"\1", url)


def _later(timestamp: str) -> str:
    try:
        then = datetime.strptime(timestamp, SNAPSHOT_TIME).replace(tzinfo=UTC) + _SNAPSHOT_DELAY
    except (ValueError, OverflowError) as error:
        raise DocumentError(f"lock: snapshot {timestamp!r} is no time", hint="run `tdx-builder lock` again") from error
    return then.strftime(SNAPSHOT_TIME)
