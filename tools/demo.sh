#!/bin/sh
# One release of recipes/IMAGE, end to end, as anybody would do it by hand: demo.sh IMAGE OUT [OPTION OF FETCH...]
# `./nox -s demo` and `./nox -s guest` run this. Leaves everything in OUT, and compares the result with manifests/IMAGE.
set -eu
image=$1
out=$2
shift 2
recipe=recipes/$image
version=$(sed -n 's/^version: //p' "$recipe/recipe.yaml")
published=manifests/$image/$version/manifest.json

run() {
    printf '\n$ %s\n' "$*" >&2
    "$@"
}

rm -rf "$out" # only what an earlier demo left
mkdir -p "$out"
run tdx-builder lock --check --offline "$recipe"
run tdx-builder fetch "$recipe" "$@"
run tdx-builder key new "$out/demo-test-key"
run tdx-builder release "$recipe" --key "$out/demo-test-key" --out "$out" --manifests "$out/manifests" --offline
made=$out/manifests/$image/$version/manifest.json
run tdx-builder verify "$made" --key "$out/demo-test-key.pub" --artifacts "$out/artifacts"
run tdx-builder verify "$published" --key "manifests/$image-test-key.pub" --artifacts "$out/artifacts"
run tdx-builder diff "$published" "$made"
cat <<END

This machine has just reproduced $image $version: the same artefacts, byte for byte, and the same registers as the
published, signed manifest. What to look at next:

  $out/artifacts/          firmware, kernel, initrd, root file system, app image, command line
  $out/legs/{a,b}/         what each leg saw from inside (leg.json), and its logs
  $made
                               the manifest you just signed: tdx-builder verify $made --json ...
  $recipe/      the recipe, its files and its lock: change one and run the demo again
  docs/architecture.md, docs/trust.md    how it works, and what it does not prove
END
