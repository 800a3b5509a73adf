"""The engines that legs can run in, by what the options call them: `bubblewrap`, `docker`, `docker=CONTEXT|URL`."""

import os

from builder.errors import BuilderError, DocumentError
from builder.ports import Sandbox

BUBBLEWRAP = "bubblewrap"
DOCKER = "docker"
FORMS = (BUBBLEWRAP, DOCKER, f"{DOCKER}=CONTEXT", f"{DOCKER}=URL")


def open_engine(text: str) -> Sandbox:
    """The engine that `text` names; nothing is run, and no daemon asked, before it is used.

    DocumentError for an engine that is not known, MissingError for a docker context that is not there.
    """
    name, separator, where = text.partition("=")
    if name == BUBBLEWRAP and not separator:
        from builder.backends.bubblewrap import Bubblewrap

        return Bubblewrap()
    if name == DOCKER and bool(separator) == bool(where):
        from builder.backends.docker.engine import DockerEngine
        from builder.backends.docker.host import find_host

        return DockerEngine(find_host(where, os.environ))
    raise DocumentError(f"{text!r} is not an engine, wanted one of {', '.join(FORMS)}")


def default_engine_b() -> tuple[str, str]:
    """The engine of leg b where nobody chose: docker if legs can run on the daemon, else bubblewrap, and then why."""
    try:
        _ = open_engine(DOCKER).engine_version
    except BuilderError as error:
        return BUBBLEWRAP, f"both legs run in bubblewrap: {error.message.splitlines()[0]}"
    return DOCKER, ""
