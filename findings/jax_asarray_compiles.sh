#!/usr/bin/env bash
# jnp.asarray(numpy_array) compiles an XLA program for each new shape; jax.device_put compiles none.
#
# What one would guess: turning a NumPy array into a JAX array is a transfer, and costs the same for any shape.
# What happens: outside jit, jnp.asarray traces, lowers and compiles a program ("jit(stage)" in JAX's log) for each shape
# that it has not seen, although there is nothing to convert, and with copy=False as well: 10 to 20 ms of processor time
# each. jax.device_put transfers the same arrays without compiling anything.
# Why it matters: photos, meshes and scans come in ever new sizes, so every one of them pays a compilation before any
# work is done, in each process anew: the persistent cache leaves out what compiles in under a second.
#
# Seen with jax and jaxlib 0.10.2 and numpy 2.4.6 on 2026-11-28, CPU. Run: bash findings/jax_asarray_compiles.sh; exits 1
# if this has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -qq "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"

cat > "$folder/program.py" << 'PYTHON'
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

compiled = 0


def listen(event, duration, **_):
    global compiled
    compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(listen)
arrays = [np.zeros((100 + number, 64, 3), np.float32) for number in range(50)]
transfer = {
    "asarray": jnp.asarray,
    "asarray, copy=False": lambda array: jnp.asarray(array, copy=False),
    "device_put": jax.device_put,
}[sys.argv[1]]
transfer(np.zeros(3, np.float32))  # starts JAX's back end
compiled, start = 0, time.process_time()
for array in arrays:
    transfer(array).block_until_ready()
print(compiled, round(time.process_time() - start, 3))
PYTHON

count() { # programs compiled for 50 shapes, and processor seconds
    env -u JAX_COMPILATION_CACHE_DIR JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py" "$1"
}

read -r asarray seconds < <(count asarray)
read -r without_copy without_copy_seconds < <(count "asarray, copy=False")
read -r device_put device_put_seconds < <(count device_put)
echo "50 arrays of 50 shapes: jnp.asarray             compiles $asarray programs in $seconds s"
echo "                        jnp.asarray, copy=False compiles $without_copy programs in $without_copy_seconds s"
echo "                        jax.device_put          compiles $device_put programs in $device_put_seconds s"

if ((asarray == 50 && without_copy == 50 && device_put == 0)); then
    echo "as found: jnp.asarray compiles a program for each shape, jax.device_put none"
else
    echo "this has changed" >&2
    exit 1
fi
