#!/usr/bin/env bash
# JAX's persistent compilation cache forgets everything when its folder is moved or copied, on a CPU as well.
#
# What one would guess: entries are found by a hash of the program, the versions and the device, so a cache folder can be
# copied: out of a Docker layer, restored by CI under another path, taken from a colleague's home.
# What happens: with the default settings every program is compiled again. The key holds the folder's own path, because
# JAX puts that path into XLA's debug options (xla_gpu_per_fusion_autotune_cache_dir) before it hashes the compile
# options, even where there is no GPU. With jax_persistent_cache_enable_xla_caches="none" the folder can be moved.
# Why it matters: nothing is reported; the cache merely grows by a second copy of each program, and starts stay slow.
#
# Seen with jax and jaxlib 0.10.2 on 2026-11-28, CPU. Run: bash findings/jax_cache_moved.sh; exits 1 if this has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -qq "jax==0.10.2" "jaxlib==0.10.2"

cat > "$folder/program.py" << 'PYTHON'
import os

import jax
import jax.numpy as jnp

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((8, 8))).block_until_ready()
print(sum(name.endswith("-cache") for name in os.listdir(os.environ["JAX_COMPILATION_CACHE_DIR"])))
PYTHON

entries() { # how many programs a cache folder holds after the program has run with it
    env -u JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES ${2:+JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES="$2"} \
        JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR="$1" "$folder/env/bin/python" "$folder/program.py"
}

first=$(entries "$folder/cache")
again=$(entries "$folder/cache")
cp -r "$folder/cache" "$folder/copy"
copied=$(entries "$folder/copy")
echo "default settings:  $first programs after one run, $again after a second, $copied after a run with a copy of the folder"

none_first=$(entries "$folder/none" none)
cp -r "$folder/none" "$folder/none-copy"
none_copied=$(entries "$folder/none-copy" none)
echo "XLA caches \"none\": $none_first programs after one run, $none_copied after a run with a copy of the folder"

if ((first > 0 && again == first && copied == 2 * first && none_copied == none_first)); then
    echo "as found: a copied cache is not used, unless jax_persistent_cache_enable_xla_caches is \"none\""
else
    echo "this has changed" >&2
    exit 1
fi
