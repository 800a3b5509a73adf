"""Makes the app image: an OCI image layout with one uncompressed layer, as a tar file, and its digest.

With a compose file, the app's description in dstack's form as well, which names the image by that digest.

Parameters: `packages`, `programs`, `files`, `entrypoint`, `image`, `version`, `compose`, `source_date_epoch`; `compose`
is a list of one input or none.
"""

import hashlib

from builder.inside.own_files import add_own_files
from builder.inside.packages import Slice, Spool, unpack_packages
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.normalize.compose import encode_app_compose
from builder.normalize.oci import ImageConfig, encode_image
from builder.normalize.programs import program_members
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Tree, add_merged_usr_links

IMAGE = "app.oci.tar"
DIGEST = "app.digest"
DESCRIPTION = "app-compose.json"


def make_app_image(parameters: Parameters) -> None:
    """Write `app.oci.tar` and `app.digest`, the digest of the manifest as `sha256:...` and a newline.

    `app-compose.json` too if there is a compose file.
    """
    spool = Spool()
    epoch, name = parameters.integer("source_date_epoch"), parameters.text("image")
    tree = _app_tree(parameters, spool)
    layer = spool.keep(encode_tar(tree.members(), epoch=epoch))
    image = encode_image(
        ImageConfig(f"{name}:{parameters.text('version')}", tuple(parameters.texts("entrypoint")), epoch),
        layer=layer,
        layer_sha256=_sha256(layer),
        layer_size=layer.size,
    )
    descriptions = [
        encode_app_compose(read_input(compose), name=name, digest=image.digest)
        for compose in parameters.texts("compose")
    ]
    layout = Tree()
    for member in image.members:
        layout.add(member, origin="the image")
    write_output(IMAGE, encode_tar(layout.members(), epoch=epoch))
    write_output(DIGEST, (f"{image.digest}\n".encode("ascii"),))
    for description in descriptions:
        write_output(DESCRIPTION, (description,))


def _app_tree(parameters: Parameters, spool: Spool) -> Tree:
    tree = Tree()
    packages = unpack_packages(parameters.texts("packages"), spool)
    for member in program_members(packages, parameters.texts("programs"), what="app image"):
        tree.add(member, origin="the packages")
    add_own_files(tree, parameters)
    add_merged_usr_links(tree)
    tree.file(parameters.texts("entrypoint")[0].lstrip("/"), what="app image")
    return tree


def _sha256(layer: Slice) -> str:
    digest = hashlib.sha256()
    for chunk in layer:
        digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    run_program(make_app_image)
