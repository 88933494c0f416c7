# Sourced by serve and test with $root set, in POSIX sh: `set_up LEVEL` makes .venv hold lmx.
# Nothing is done when nothing changed.
# Levels: 1 = MLX, 2 = and GGUF (compiles llama-cpp-python), 3 = and the development tools.

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

runs() { "$@" >/dev/null 2>&1 </dev/null; }

new_enough() { runs "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$python"; then
            python=$("$python" -c 'import sys; print(sys.executable)')
            return
        fi
    done
    found=$(python3 --version 2>/dev/null </dev/null) || found="none"
    fail "lmx needs Python 3.11 or newer, found $found: install one and run this again."
}

find_compiler() {
    for compiler in "${CXX:-c++}" g++ clang++; do
        if runs "$compiler" --version; then return; fi
    done
    fail "GGUF models need a C++ compiler to build llama-cpp-python: install g++ or clang++ and run this again."
}

make_venv() {
    find_python
    rm -rf .venv
    if runs uv --version; then
        uv venv --quiet --python "$python" .venv || fail "uv could not make .venv: see above."
    else
        "$python" -m venv .venv || fail "Python's venv is missing: install python3-venv, or uv, and run this again."
    fi
}

find_uv() {
    uv=uv
    if runs uv --version; then return; fi
    uv=.venv/bin/uv
    if runs $uv --version; then return; fi
    runs .venv/bin/python -m pip --version || runs .venv/bin/python -m ensurepip || fail "install uv or python3-pip."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv || fail "uv was not installed: see above."
}

# A compiled llama-cpp-python is kept here: uv's own cache forgets it when the index sends no caching headers.
wheels=${XDG_CACHE_HOME:-${HOME:-.}/.cache}/lmx/wheels
pinned=llama-cpp-python==$(sed -n 's/^gguf = .*==\([0-9.]*\).*/\1/p' "$root/pyproject.toml")

compiled() { runs ls "$wheels/llama_cpp_python-${pinned#*==}"-*.whl; }

compile() {
    if compiled; then return; fi
    echo "Compiling $pinned, which takes minutes; the result is kept in $wheels." >&2
    # pip's own cache may hold a wheel that was built for one CPU only.
    "$uv" tool run --quiet --python .venv/bin/python \
        pip wheel --quiet --no-cache-dir --no-deps --wheel-dir "$wheels" "$pinned" </dev/null ||
        echo "It could not be kept; trying without." >&2
}

install() {
    [ "$1" -lt 2 ] || compiled || find_compiler
    new_enough .venv/bin/python || make_venv
    find_uv
    # Virtual machines announce CPU features that they fault on; also said in pyproject.toml, for uv used by hand.
    export CMAKE_ARGS="-DGGML_NATIVE=OFF ${CMAKE_ARGS:-}"
    [ "$1" -lt 2 ] || compile
    case $1 in
        1) set -- -e '.[mlx]' ;;
        2) set -- -e '.[all]' ;;
        *) set -- -e '.[all]' --group dev ;;
    esac
    mkdir -p "$wheels"
    "$uv" pip install --quiet --python .venv/bin/python --find-links "$wheels" "$@" </dev/null ||
        fail "installing packages failed: see above."
}

# Some clients need versions of packages that the rest of the tests cannot live with.
install_clients() {
    "$uv" venv --quiet --clear --python .venv/bin/python .venv/clients || fail "uv could not make .venv/clients: see above."
    "$uv" pip install --quiet --python .venv/clients/bin/python --group clients </dev/null ||
        fail "installing the clients failed: see above."
}

set_up() {
    sum=$(cksum <pyproject.toml)
    level=0
    if [ -f .venv/lmx-setup ]; then
        read -r level old <.venv/lmx-setup
        [ "$old" = "$sum" ] && [ "$level" -ge "$1" ] && runs .venv/bin/python -c 'import lmx' && return
    fi
    [ "$level" -ge "$1" ] || level=$1
    echo "Setting up .venv." >&2
    install "$level"
    [ "$level" -lt 3 ] || install_clients
    echo "$level $sum" >.venv/lmx-setup
}
