#!/bin/sh
# One release of recipes/quickstart, end to end, as anybody would do it by hand: `./nox -s demo` runs this.
# Leaves everything in out/demo, and compares the result with the release in manifests/.
set -eu
recipe=recipes/quickstart
published=$(ls -d manifests/quickstart/*/ | sort -V | tail -n 1)manifest.json
out=out/demo
version=$(basename "$(dirname "$published")")

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
made=$out/manifests/quickstart/$version/manifest.json
run tdx-builder verify "$made" --key "$out/demo-test-key.pub" --artifacts "$out/artifacts"
run tdx-builder verify "$published" --key manifests/quickstart-test-key.pub --artifacts "$out/artifacts"
run tdx-builder diff "$published" "$made"
cat <<END

This machine has just reproduced quickstart $version: the same artefacts, byte for byte, and the same registers as the
published, signed manifest. What to look at next:

  out/demo/artifacts/          firmware, kernel, initrd, root file system, app image, command line
  out/demo/legs/{a,b}/         what each leg saw from inside (leg.json), and its logs
  $made
                               the manifest you just signed: tdx-builder verify $made --json ...
  recipes/quickstart/          the recipe, its files and its lock: change one and run the demo again
  docs/architecture.md, docs/trust.md    how it works, and what it does not prove
END
