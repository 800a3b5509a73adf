# shellcheck shell=sh
# install_packages NAME...: installs the Debian packages that are missing, as root or through sudo; sourced by ./nox and noxfile.py.
install_packages() {
    missing=
    for name in "$@"; do
        dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
    if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
        echo "missing Debian packages:$missing; install them as root, or install sudo" >&2
        return 5
    fi
    echo "installing Debian packages:$missing" >&2
    # shellcheck disable=SC2086 # a list of names
    output=$($as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' apt $missing 2>&1 </dev/null) || {
        printf '%s\n' "$output" "apt-get could not install:$missing" >&2
        return 5
    }
}
