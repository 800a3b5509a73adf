"""Docker contexts, as `docker context create` writes them."""

import json
from hashlib import sha256
from pathlib import Path


def write_context(config: Path, name: str, document: object) -> None:
    """A context of this name in docker's directory of configuration, whatever the document says."""
    directory = config / "contexts/meta" / sha256(name.encode()).hexdigest()
    directory.mkdir(parents=True)
    (directory / "meta.json").write_text(json.dumps(document))


def endpoint(name: str, url: str, **more: object) -> dict[str, object]:
    """The document of a context for the daemon at `url`."""
    return {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": url, **more}}}
