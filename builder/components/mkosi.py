"""The guest's tree made by mkosi from an existing configuration, in the place of packages that are only unpacked.

mkosi installs packages as dpkg does: maintainer scripts run. It needs no network and no privileges of the host, but
namespaces of its own inside the leg's, and a kernel release that libc6's scripts accept (`determinism.md` 3.13).
"""

from dataclasses import replace

from builder.components.steps import group_packages, own_files, program_step
from builder.errors import DocumentError
from builder.model.lock import Lock
from builder.model.plan import Step
from builder.model.recipe import Recipe

STEP = "mkosi"
OUTPUT = "mkosi.tar"

# mkosi takes root for somebody who may give files to anybody, which root of a leg may not
_ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_OLD_KERNEL = "maintainer scripts of libc6 refuse the kernel release that this axis shows (determinism.md 3.13)"


def mkosi_step(recipe: Recipe, lock: Lock) -> Step:
    """The step that makes `mkosi.tar`: the configuration of the recipe, and all packages of the guest OS as its mirror.

    DocumentError for a recipe whose guest OS is not made by mkosi, and for packages to do `without`.
    """
    guest_os = recipe.guest_os
    if guest_os.mkosi is None or guest_os.root is None:
        raise DocumentError("guest OS: the recipe names no mkosi configuration, or no root for mkosi")
    if guest_os.without:
        raise DocumentError(
            f"guest OS: to do without {', '.join(guest_os.without)} is nothing that mkosi can be told",
            hint="take `without` out of the recipe, or name what to remove in mkosi's own `RemovePackages=`",
        )
    packages = group_packages(lock, recipe.guest_os_group)
    files = own_files(lock, guest_os.mkosi)
    parameters = {
        "packages": packages.described,
        "files": files.described,
        "source_date_epoch": recipe.source_date_epoch,
    }
    step = program_step(
        STEP,
        "mkosi",
        parameters=parameters,
        inputs=(*packages.inputs, *files.inputs),
        outputs=(OUTPUT,),
        root=guest_os.root,
    )
    return replace(step, argv=(*_ORDINARY_USER, *step.argv), unvaried=(("kernel", _OLD_KERNEL),), user_namespaces=True)
