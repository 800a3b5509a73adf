"""An EFI system partition that is a mapping of paths to bytes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Files:
    """An EspReader of `builder.ports`; case does not matter, as on FAT."""

    files: Mapping[str, bytes]

    def names(self, directory: str) -> tuple[str, ...]:
        start = directory.lower() + "/"
        return tuple(
            sorted({path[len(start) :].partition("/")[0] for path in self.files if path.lower().startswith(start)})
        )

    def read(self, path: str) -> bytes | None:
        return {name.lower(): content for name, content in self.files.items()}.get(path.lower())
