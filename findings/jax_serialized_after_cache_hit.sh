#!/usr/bin/env bash
# On a CPU, an executable that came out of JAX's persistent compilation cache is serialised without its machine code:
# the bytes load in another process without complaint, and the first call fails.
#
# What one would guess: jax.experimental.serialize_executable writes a compiled program so that another process can load
# and run it, however the program came about.
# What happens: it does so if this process compiled the program. If the persistent cache supplied it, the result is
# about half as large, deserialize_and_load succeeds, and calling what it returns raises "Function ... not found".
# Why it matters: a build step that ships serialised executables works on a fresh machine and ships broken ones as soon
# as its cache is warm. Nothing fails until a user calls the program. Compile with jax_enable_compilation_cache=False
# before serialising.
#
# Seen with jax and jaxlib 0.10.2 on 2026-11-28, CPU. Run: bash findings/jax_serialized_after_cache_hit.sh; exits 1 if
# this has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -qq "jax==0.10.2" "jaxlib==0.10.2"

cat > "$folder/save.py" << 'PYTHON'
import pickle
import sys

import jax
import jax.numpy as jnp
from jax.experimental.serialize_executable import serialize

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
x = jnp.ones((8, 8))
compiled = jax.jit(lambda x: jnp.sin(x) @ x.T).lower(x).compile()
compiled(x).block_until_ready()  # here it runs, wherever it came from
saved = serialize(compiled)
with open(sys.argv[1], "wb") as file:
    pickle.dump(saved, file)
print(len(saved[0]))
PYTHON

cat > "$folder/load.py" << 'PYTHON'
import pickle
import sys

import jax
import jax.numpy as jnp
from jax.experimental.serialize_executable import deserialize_and_load

with open(sys.argv[1], "rb") as file:
    call = deserialize_and_load(*pickle.load(file))
try:
    call(jnp.ones((8, 8))).block_until_ready()
    print("runs")
except jax.errors.JaxRuntimeError as error:
    print("loads, but the call fails:", str(error).rpartition("computation: ")[2])
PYTHON

run() { # a program of this script, without the user's own settings of JAX
    env -u JAX_COMPILATION_CACHE_DIR -u JAX_ENABLE_COMPILATION_CACHE ${cache:+JAX_COMPILATION_CACHE_DIR="$cache"} \
        JAX_PLATFORMS=cpu "$folder/env/bin/python" "$@"
}

cache=$folder/cache
size_compiled=$(run "$folder/save.py" "$folder/compiled")
size_cached=$(run "$folder/save.py" "$folder/cached")
cache=
compiled=$(run "$folder/load.py" "$folder/compiled")
cached=$(run "$folder/load.py" "$folder/cached")
echo "serialised after compiling:          $size_compiled bytes, $compiled"
echo "serialised after a hit in the cache: $size_cached bytes, $cached"

if [[ $compiled == runs && $cached == "loads, but the call fails"* ]]; then
    echo "as found: what the persistent cache returns cannot be serialised again"
else
    echo "this has changed" >&2
    exit 1
fi
