"""The recipe's own files: owned by root, 0755 or 0644, whatever the checkout made of them."""

from collections.abc import Iterator

from builder.inside.program import Parameters, read_input
from builder.normalize.deb import merged_usr_path
from builder.normalize.tree import Member, Tree, file_member

ORIGIN = "the recipe"


def add_own_files(tree: Tree, parameters: Parameters) -> None:
    """Put the files of parameter `files` on top of what the packages ship."""
    for member in _members(parameters):
        tree.put(member, origin=ORIGIN)


def _members(parameters: Parameters) -> Iterator[Member]:
    for file in parameters.objects("files"):
        data = read_input(file.text("input"))
        yield file_member(merged_usr_path(file.text("path")), data, executable=file.boolean("executable"))
