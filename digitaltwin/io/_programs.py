"""Compiled programs, kept on disk by the library itself: :func:`stored_program` in the place of ``jax.jit``.

JAX's own persistent cache spares XLA's work alone: a function is still traced and lowered in every process, which for
the fit takes longer than running it. Here the executable itself is kept, under a key of all that decides it (function,
this package's sources, shapes, static arguments, JAX's settings, jaxlib, device, processor), and a process that finds
it neither traces nor lowers.

An executable is machine code, so it is read from the user's own folder alone (:mod:`digitaltwin.io._store`), verified
by its digest; the structure of its outputs is kept as JSON, no pickle is involved. Whatever goes wrong, ``jax.jit``
does the work.

Inside another trace (a caller's ``jit``, ``vmap``, ``grad``) a stored program is the ordinary function.
"""

import contextlib
import functools
import importlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax

from digitaltwin.io._store import digest, load_entry, note_avatar_made, remove_entry, save_entry, store_folder

_core: Any
_ArrayImpl: Any
_trace_context: Any
_xla_client: Any
try:  # JAX does not export these; with a version that moved them, programs are compiled as ever and not kept
    from jax._src import core as _core
    from jax._src.array import ArrayImpl as _ArrayImpl
    from jax._src.config import trace_context as _trace_context
    from jax._src.lib import xla_client as _xla_client  # pyright: ignore[reportPrivateImportUsage]
except ImportError:  # pragma: no cover
    _core = _ArrayImpl = _trace_context = _xla_client = None

P = ParamSpec("P")
R = TypeVar("R")

_TRIED = ((0, 10),)
"""Versions of JAX that executables were stored and loaded with; others only compile, because a program that calls a
routine which its process has not looked up ends the process."""
_PLATFORMS = ("cpu",)
"""Likewise for devices."""
# Settings that change no program, parts of their names.
_IRRELEVANT = ("cache", "log", "traceback", "pprint", "dump", "guard", "address", "distributed", "explain", "proxy")
_CHECKED = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs", "jax_check_tracer_leaks", "jax_debug_key_reuse")
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "TF_CUDNN_DETERMINISTIC")
FEWER_FUSIONS = {"xla_cpu_use_fusion_emitters": False}
"""For a program of very many small operations: XLA's older way to compile fusions takes half to two thirds of the time
then, and the result is as quick or nearly."""
LIGHT = {**FEWER_FUSIONS, "xla_backend_optimization_level": 1}
"""Likewise, where LLVM's second and third level gain nothing either."""
UNOPTIMIZED = {**FEWER_FUSIONS, "xla_backend_optimization_level": 0}
"""For a program whose loops are short, or whose time goes to libraries: compiled in a fifth of the time."""
_KIND = "program"


class _Unstorable(Exception):
    """Why a program cannot be kept."""


class _Program(NamedTuple):
    """A loaded executable."""

    executable: Any
    out_tree: Any
    device: Any

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Run it on the leaves of its arguments."""
        arrays = [leaf if isinstance(leaf, jax.Array) else _canonical(leaf) for leaf in leaves]
        outside = [i for i, array in enumerate(arrays) if not isinstance(array, jax.Array)]
        if outside:
            for i, array in zip(outside, jax.device_put([arrays[i] for i in outside], self.device)):
                arrays[i] = array
        results = self.executable.execute(arrays)
        # The executable's results are bound to its device; those of jit are only if an argument is.
        bound = any(leaf.committed for leaf in leaves if isinstance(leaf, jax.Array))
        results = [_ArrayImpl(x.aval, x.sharding, [x], committed=bound, _skip_checks=True) for x in results]
        return jax.tree.unflatten(self.out_tree, results)


def stored_program(
    function: Callable[P, R],
    *,
    static_argnames: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Callable[P, R]:
    """``jax.jit``, its compiled programs kept on disk from one process to the next.

    Args:
        function: A pure function of the package's own, defined at the top of its module; what it closes over must be
            decided by the package's sources. Its outputs are arrays in tuples, lists, dictionaries and NamedTuples.
        static_argnames: Arguments that are compiled in. They have to be passed by name, hashable, and told apart by
            their ``repr``.
        options: Options of the compiler, which may change how long it takes and how its result is rounded, not what is
            computed. A compiler that does not know one goes without all.

    Returns:
        The function. Weakly typed outputs become strongly typed. Its attribute ``jitted`` is the plain jitted function,
        for ``lower`` and the like.

    Example:
        >>> def scaled(x, *, factor):
        ...     return {"scaled": factor * x}
        >>> scaled = stored_program(scaled, static_argnames=("factor",))
        >>> scaled(jnp.arange(3.0), factor=2.0)["scaled"].tolist()
        [0.0, 2.0, 4.0]
        >>> jax.grad(lambda x: scaled(x, factor=2.0)["scaled"].sum())(jnp.ones(2)).tolist()
        [2.0, 2.0]
    """
    name = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def strong(*args: P.args, **kwargs: P.kwargs) -> R:
        return jax.tree.map(_strong, function(*args, **kwargs))

    jitted = jax.jit(strong, static_argnames=tuple(static_argnames), keep_unused=True)
    programs: dict[Any, _Program | None] = {}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        dynamic, static = kwargs, ()
        if static_argnames:
            dynamic = {key: value for key, value in kwargs.items() if key not in static_argnames}
            static = tuple((key, kwargs[key]) for key in static_argnames if key in kwargs)
        leaves, in_tree = jax.tree.flatten((args, dynamic))
        situation = _situation(leaves)
        if situation is None:
            return jitted(*args, **kwargs)
        key = (in_tree, static, situation)
        if key not in programs:
            programs[key], result = _first_call(
                name, key, leaves, dict(options or {}), lambda: jitted.lower(*args, **kwargs)
            )
            if programs[key] is not None:
                return result
        program = programs[key]
        return jitted(*args, **kwargs) if program is None else program(leaves)

    extra = cast(Any, call)
    extra.jitted, extra.lower = jitted, jitted.lower
    extra._cache_size = lambda: len(programs) + cast(Any, jitted)._cache_size()  # what jit compiled instead counts too
    return call


def _first_call(
    name: str, key: Any, leaves: list[Any], options: dict[str, Any], lower: Callable[[], Any]
) -> tuple[_Program | None, Any]:
    """Load a program or compile and keep it, and run it once; None in its place if that cannot be done."""
    in_tree, static, situation = key
    device = situation[0]
    base = _user_folder()
    try:
        entry_key = _entry_key(name, in_tree, static, situation)
        program = _load(entry_key, device, base)
        if program is not None:
            try:
                return program, jax.block_until_ready(program(leaves))
            except Exception as error:
                logging.debug("%s: the stored program is not used: %s", name, error)
                remove_entry(_KIND, entry_key, base=base)
        program = _compile(entry_key, device, base, options, lower)
        return program, program(leaves)
    except _Unstorable as reason:
        logging.debug("%s: not stored: %s", name, reason)
    except Exception as error:  # of JAX's insides; an error of the function itself comes again, from jit
        logging.debug("%s: not stored: %r", name, error)
    return None, None


def _compile(
    entry_key: str, device: Any, base: str | None, options: dict[str, Any], lower: Callable[[], Any]
) -> _Program:
    """Compile a program and keep it."""
    lowered = lower()
    with _cache_hits() as hits:
        compiled = _compile_lowered(lowered, options)
    executable = compiled.runtime_executable()
    out_tree = lowered.out_tree
    count = len(jax.tree.leaves(lowered.out_info))
    outputs = _describe(jax.tree.unflatten(out_tree, range(count)))
    text = compiled.as_text()
    if "callback" in text:
        raise _Unstorable("it calls back into Python")
    if any(jnp.issubdtype(info.dtype, jax.dtypes.extended) for info in jax.tree.leaves(lowered.out_info)):
        raise _Unstorable("an output is a random key")
    program = _Program(executable, out_tree, device)
    # What came from JAX's persistent cache cannot be written again: parts of its code would be missing.
    if not hits and _setting("jax_enable_compilation_cache"):
        serialized = device.client.serialize_executable(executable)
        save_entry(_KIND, entry_key, {"outputs": outputs, "lapack": "lapack_" in text}, [serialized], base=base)
    return program


def _compile_lowered(lowered: Any, options: dict[str, Any]) -> Any:
    """Compile with options, or without if this compiler does not know them."""
    if options:
        try:
            return lowered.compile(compiler_options=options)
        except Exception as error:
            logging.debug("compiled without options: %s", error)
    return lowered.compile()


def _load(entry_key: str, device: Any, base: str | None) -> _Program | None:
    """Load a program, if it is there."""
    if not _setting("jax_enable_compilation_cache"):
        return None
    entry = load_entry(_KIND, entry_key, base=base)
    if entry is None:
        return None
    description, data = entry
    try:
        if description["lapack"]:
            _initialise_lapack()
        devices = _xla_client.DeviceList((device,))
        executable = device.client.deserialize_executable(data.tobytes(), executable_devices=devices)
        out_tree = jax.tree.structure(_rebuild(description["outputs"]))
    except Exception as error:
        logging.debug("a stored program is not used: %r", error)
        return None
    return _Program(executable, out_tree, device)


@functools.cache
def _initialise_lapack() -> None:
    """Have jaxlib look up SciPy's LAPACK, which otherwise happens as a program that calls it is lowered."""
    jax.jit(lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))


def _situation(leaves: list[Any]) -> tuple[Any, ...] | None:
    """Device, settings, shapes and dtypes of a call; None where a stored program has no place."""
    if not _usable() or not _core.trace_state_clean():
        return None
    if any(_setting(name) for name in _CHECKED) or not jax.sharding.get_abstract_mesh().empty:
        return None
    device = _default_device()
    if device.platform not in _PLATFORMS:
        return None
    signatures = []
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            if isinstance(leaf, _core.Tracer) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
                return None
            if leaf.is_deleted() or leaf.devices() != {device}:
                return None  # jit knows what to say, or where it shall run
            signatures.append((leaf.shape, leaf.dtype, leaf.weak_type))
        elif isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind in "biufc":
            signatures.append((leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), False))
        elif isinstance(leaf, (bool, int, float, complex)):
            signatures.append(((), jax.dtypes.canonicalize_dtype(type(leaf)), True))
        else:
            return None
    return device, _trace_context(), tuple(signatures)


@functools.cache
def _usable() -> bool:
    """Whether this JAX is one that programs were stored with, in a single process."""
    version = tuple(int(part) for part in jax.__version__.split(".")[:2])
    return _xla_client is not None and version in _TRIED and jax.process_count() == 1


def note_programs_stored() -> None:
    """Say that an avatar has been made, if another process like this one will find its programs on disk."""
    with contextlib.suppress(_Unstorable):
        base = _user_folder()
        if _usable() and _default_device().platform in _PLATFORMS and _setting("jax_enable_compilation_cache"):
            note_avatar_made(base)


def _setting(name: str) -> Any:
    return getattr(jax.config, name, None)


def _default_device() -> Any:
    device = _setting("jax_default_device")
    if device is None:
        return _first_device()
    return jax.local_devices(backend=device)[0] if isinstance(device, str) else device


@functools.cache
def _first_device() -> Any:
    return jax.local_devices()[0]


def _entry_key(name: str, in_tree: Any, static: Any, situation: tuple[Any, ...]) -> str:
    """Digest of all that decides a program."""
    device, context, signatures = situation
    described = [repr(in_tree), repr(static)]
    if any(" at 0x" in text for text in described):
        raise _Unstorable("an argument has no lasting name")
    settings = {
        key: repr(value)
        for key, value in sorted(cast(Any, jax.config).values.items())
        if not any(part in key for part in _IRRELEVANT)
    }
    return digest(
        name,
        *described,
        [(shape, str(dtype), weak) for shape, dtype, weak in signatures],
        [repr(part) for part in context if " at 0x" not in repr(part)],
        settings,
        [
            jax.__version__,
            metadata.version("jaxlib"),
            device.platform,
            device.device_kind,
            device.client.platform_version,
        ],
        [os.environ.get(variable) for variable in _ENVIRONMENT],
        _processor(),
    )


@functools.cache
def _processor() -> tuple[str, ...]:
    """Features of this machine's processor, as far as the system tells."""
    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kept = ("flags", "Features", "model name", "cpu family", "model")
        features = "\n".join(sorted({line for line in lines if line.split("\t")[0].rstrip(" :") in kept}))
    except OSError:
        features = platform.processor()
    return platform.system(), platform.machine(), features, str(os.cpu_count())


def _user_folder() -> str | None:
    """JAX's folder for compiled programs, if the user has named one; they are then kept in it."""
    folder = _setting("jax_compilation_cache_dir")
    if folder and "://" in folder:
        raise _Unstorable("JAX's folder is not on this machine")
    # One that a command has made for JAX lies in the store: from Python the programs are looked for there.
    return folder if folder and Path(folder).parent != store_folder() else None


@contextlib.contextmanager
def _cache_hits() -> Iterator[list[str]]:
    """List what JAX's persistent cache gives while the block runs."""
    hits: list[str] = []

    def note(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(note)


def _strong(x: Any) -> jax.Array:
    """The array, its dtype its own."""
    x = jnp.asarray(x)
    return lax.convert_element_type(x, x.dtype) if x.weak_type else x


def _canonical(leaf: Any) -> np.ndarray:
    """A NumPy array of the dtype that jit would take it for."""
    dtype = leaf.dtype if isinstance(leaf, (np.ndarray, np.generic)) else type(leaf)
    return np.asarray(leaf, jax.dtypes.canonicalize_dtype(dtype))


def _describe(tree: Any) -> Any:
    """The structure of a program's outputs as JSON."""
    if tree is None or isinstance(tree, int):
        return None if tree is None else "array"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kind = type(tree)
        return {"named": [kind.__module__, kind.__qualname__], "items": [_describe(item) for item in tree]}
    if type(tree) in (tuple, list):
        return {"sequence": type(tree).__name__, "items": [_describe(item) for item in tree]}
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {"mapping": list(tree), "items": [_describe(item) for item in tree.values()]}
    raise _Unstorable(f"an output is in a {type(tree).__name__}")


def _rebuild(description: Any) -> Any:
    """An object of the structure that was described."""
    if description is None or description == "array":
        return None if description is None else 0
    items = [_rebuild(item) for item in description["items"]]
    if "sequence" in description:
        return tuple(items) if description["sequence"] == "tuple" else items
    if "mapping" in description:
        return dict(zip(description["mapping"], items, strict=True))
    module, name = description["named"]
    kind = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    if not (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")):
        raise ValueError(f"{module}.{name} is no NamedTuple")
    return kind(*items)
