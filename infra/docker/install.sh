#!/bin/sh
# Makes the environment of an image, in two steps, so that a change of code leaves the packages alone:
#
#     install.sh packages LOCK VENV     a new environment, without pip, of all that the lock holds, by its hashes
#     install.sh project VENV           the wheel of the project in the current folder, without its dependencies
#
# Runs in the repository's root, or a copy of what the Dockerfiles name of it, and needs python3.11 and a package index.
# What installs and builds lies in VENV.tools, and stays behind with the stage that it ran in.
set -eu

# The locked setuptools, out of a lock that holds it: what is no wheel is built by nothing else.
locked_setuptools() {
    sed -n '/^setuptools==/,/^ *#/p' "$1"
}

# pip with these arguments; it belongs to the tools, wherever it installs.
pip() {
    "$tools/bin/python" -I -m pip "$@"
}

# Installs requirements into an environment as they are locked.
install_locked() {
    pip --python "$1/bin/python" install --no-deps --no-build-isolation --require-hashes --requirement "$2"
}

case "$1" in
packages)
    lock=$2 venv=$3 tools=$3.tools
    python3.11 -m venv "$tools"
    locked_setuptools infra/python/lock.txt > "$tools/setuptools.txt"
    install_locked "$tools" "$tools/setuptools.txt"
    python3.11 -m venv --without-pip "$venv"
    # First, because building the others needs it there.
    if grep -q '^setuptools==' "$lock"; then
        install_locked "$venv" "$tools/setuptools.txt"
    fi
    install_locked "$venv" "$lock"
    ;;
project)
    venv=$2 tools=$2.tools
    pip wheel --no-deps --no-build-isolation --wheel-dir "$tools/wheels" .
    pip --python "$venv/bin/python" install --no-deps --no-index "$tools"/wheels/*.whl
    ;;
*)
    echo "install.sh: no step $1; there are: packages, project" >&2
    exit 2
    ;;
esac
