"""`key new` and `key show`."""

from pathlib import Path

import click

from builder.cli.output import Result, emit
from builder.cli.wiring import json_option


@click.group()
def key() -> None:
    """Make and show signing keys."""


@key.command("new")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--type", "kind", type=click.Choice(["ed25519", "ecdsa-p256"]), default="ed25519", show_default=True)
@json_option
def new(path: Path, kind: str, *, as_json: bool) -> int:
    """Write a new private key to PATH (mode 0600) and its public key to PATH.pub; neither may exist."""
    from builder.backends.signers import KeyKind, write_new_key

    written = write_new_key(path, KeyKind(kind))
    lines = [
        f"private key: {written.private} (keep it secret)",
        f"public key:  {written.public}",
        f"key id:      {written.key_id}",
    ]
    document = {"private": str(written.private), "public": str(written.public), "key_id": written.key_id, "type": kind}
    return emit(Result("key new", document, lines), as_json=as_json)


@key.command("show")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def show(path: Path, *, as_json: bool) -> int:
    """Show the type and id of the public key in PATH."""
    from builder.backends.signers import load_public_key

    loaded = load_public_key(path)
    document = {"key_id": loaded.key_id, "type": str(loaded.kind)}
    return emit(Result("key show", document, [f"{loaded.kind} {loaded.key_id}"]), as_json=as_json)
