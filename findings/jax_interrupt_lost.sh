#!/usr/bin/env bash
# A Ctrl-C that comes while JAX traces is sometimes lost: the KeyboardInterrupt is raised in a callback of the garbage
# collector or of a weak reference, where Python drops it, and the program goes on as if nothing had been pressed.
#
# What one would guess: SIGINT raises KeyboardInterrupt in the main thread, wherever that is, and ends what runs.
# What happens: importing JAX registers a callback with the garbage collector, and its caches hold weak references with
# callbacks in Python. Tracing makes enough garbage that about one interrupt in a hundred comes while one of them runs.
# What is raised there goes to sys.unraisablehook, which prints "Exception ignored in" and returns. Loops that call no
# JAX lose none.
# Why it matters: a long batch that is asked to stop does not, or ends with exit code 0 and results that its caller
# takes for whole. A command has to remember in its own handler that it was interrupted, and to look again later.
#
# Seen with jax and jaxlib 0.10.2, numpy 2.4.6, Python 3.11.7 on 2026-11-28, Linux, CPU. Run: bash
# findings/jax_interrupt_lost.sh; exits 1 if this has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -qq "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"

cat > "$folder/program.py" << 'PYTHON'
import random
import signal
import sys

import jax
import jax.numpy as jnp

raised, dropped_in = 0, set()


def interrupt(*_):
    global raised
    raised += 1
    raise KeyboardInterrupt


def note(dropped):
    dropped_in.add(getattr(dropped.object, "__qualname__", repr(dropped.object)))


def trace(number):
    jax.make_jaxpr(lambda x: jnp.sin(x) * number)(1.0)


def count(number):
    return sum(range(number % 1000))


work = {"trace": trace, "count": count}[sys.argv[1]]
sys.unraisablehook = note
signal.signal(signal.SIGINT, interrupt)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
random.seed(0)
work(0)
caught = 0
for _ in range(2000):
    before = raised
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.004))
        for number in range(1_000_000):
            work(number)
            if raised > before:  # it came, and nothing was raised here
                break
    except KeyboardInterrupt:
        caught += 1
print(raised, raised - caught, ", ".join(sorted(dropped_in)) or "nowhere")
PYTHON

run() {
    JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/program.py" "$1"
}

read -r sent lost where < <(run trace)
read -r control_sent control_lost _ < <(run count)
echo "while JAX traces:       $lost of $sent interrupts lost, in: $where"
echo "while Python counts:    $control_lost of $control_sent interrupts lost"

if ((lost > 0 && control_lost == 0)); then
    echo "as found: some interrupts are lost while JAX traces, none otherwise"
else
    echo "this has changed" >&2
    exit 1
fi
