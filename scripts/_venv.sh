# Sourced by the scripts that need the virtual environment. Afterwards $root is the checkout and $venv its .venv;
# `prepare` makes it current.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

# Whatever is on the caller's path must not stand in for the installed package.
unset PYTHONPATH PYTHONHOME

# recent PYTHON: whether it runs and is 3.11 or newer. False as well for an environment whose interpreter is gone.
recent() {
    "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# find_python: prints the interpreter to make an environment with: LEVERET_PYTHON, or the first of the usual names that
# is recent.
find_python() {
    local candidate
    for candidate in ${LEVERET_PYTHON:+"$LEVERET_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if recent "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        if [ "$candidate" = "${LEVERET_PYTHON:-}" ]; then
            echo "LEVERET_PYTHON=$candidate does not run or is older than 3.11" >&2
            return 1
        fi
    done
    echo "Python 3.11 or newer is needed and was not found; LEVERET_PYTHON names one that is not on the PATH" >&2
    return 1
}

# prepare [EXTRA]: makes .venv when it is missing, installs what pyproject.toml asks for (with the extra), builds and
# installs the package.
prepare() {
    local python=$venv/bin/python
    recent "$python" || python=$(find_python)
    "$python" -I "$root/scripts/_build.py" "$@"
}
