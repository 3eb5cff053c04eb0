"""A stored program is jit: the same results in every transformation, and from disk only what is whole and right."""

import subprocess
import sys
import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from digitaltwin.io import _programs
from digitaltwin.io._programs import stored_program
from digitaltwin.io._store import programs_stored


class Pair(NamedTuple):
    """An output with names."""

    total: jax.Array
    parts: list


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.count = 0

        def function(x, y=None, *, power=2):
            self.count += 1
            return Pair((x**power).sum(), [x, {"y": y, "nothing": None, "weak": jnp.asarray(2.0)}])

        self.function = function

    def stored(self):
        """As a new process would see it."""
        return stored_program(self.function, static_argnames=("power",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(_programs, "_user_folder", lambda: str(tmp_path))
    if not _programs._usable():
        pytest.skip("programs are not stored with this version of JAX")
    # Without JAX's own cache: what comes from there cannot be stored.
    cache = _programs._setting("jax_compilation_cache_dir")
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "digitaltwin"
    jax.config.update("jax_compilation_cache_dir", cache)
    compilation_cache.reset_cache()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(x, y)
        assert (x.dtype, x.weak_type) == (y.dtype, y.weak_type)
        assert x._committed == y._committed


def test_a_second_process_neither_traces_nor_compiles(folder):
    traced = Traced()
    x = jnp.arange(3.0)
    first = traced.stored()(x, 1.5)
    assert traced.count == 1
    assert len(list(folder.iterdir())) == 1
    again = traced.stored()
    for _ in range(2):
        assert_same(again(x, 1.5), first)
    assert traced.count == 1
    assert_same(again.jitted(x, 1.5), first)


def test_whatever_decides_a_program_is_in_its_key(folder):
    traced = Traced()
    calls = [
        (((np.ones(3, np.float32),), {}), "plain"),
        (((np.ones(4, np.float32),), {}), "another shape"),
        (((np.ones(3, np.int32),), {}), "another dtype"),
        (((np.ones(3, np.float32), 1), {}), "another structure"),
        (((np.ones(3, np.float32), 1.0), {}), "a weak float"),
        (((np.ones(3, np.float32), np.float32(1)), {}), "a float"),
        (((np.ones(3, np.float32),), {"power": 3}), "another static argument"),
    ]
    for count, ((arguments, options), _) in enumerate(calls, 1):
        traced.stored()(*arguments, **options)
        assert traced.count == len(list(folder.iterdir())) == count
    with jax.enable_x64(True):
        result = traced.stored()(np.ones(3))
        assert traced.count == len(calls) + 1
        assert result.total.dtype == jnp.float64
    with jax.default_matmul_precision("float32"):
        traced.stored()(np.ones(3, np.float32))
    assert traced.count == len(calls) + 2
    assert traced.stored()(np.ones(3)).total.dtype == jnp.float32  # of float64, as jit takes it
    assert traced.count == len(calls) + 2


def test_nothing_damaged_is_believed(folder):
    traced = Traced()
    x = jnp.arange(3.0)
    expected = traced.stored()(x)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole[:-9] + b"x" + whole[-8:]):
        count = traced.count
        entry.write_bytes(damaged)
        assert_same(traced.stored()(x), expected)
        assert traced.count == count + 1
        assert entry.stat().st_size == len(whole)


def test_what_the_runtime_refuses_is_compiled_anew(folder):
    traced = Traced()
    x = jnp.arange(3.0)
    expected = traced.stored()(x)
    load = _programs.load_entry

    def nonsense(*arguments, **options):
        entry = load(*arguments, **options)
        return None if entry is None else (entry[0], np.zeros(100, np.uint8))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_programs, "load_entry", nonsense)
        assert_same(traced.stored()(x), expected)
    assert traced.count == 2


def test_a_program_that_loads_and_does_not_run_is_compiled_anew(folder, monkeypatch):
    traced = Traced()
    x = jnp.arange(3.0)
    expected = traced.stored()(x)
    load = _programs._load

    class Broken:
        def execute(self, arrays):
            raise RuntimeError("NOT_FOUND: function not found")

    monkeypatch.setattr(_programs, "_load", lambda *a: (p := load(*a)) and p._replace(executable=Broken()))
    assert_same(traced.stored()(x), expected)
    assert traced.count == 2


def test_inside_a_trace_it_is_the_function(folder):
    stored = Traced().stored()
    x = jnp.arange(3.0)
    np.testing.assert_allclose(jax.grad(lambda x: stored(x).total)(x), 2 * x)
    np.testing.assert_allclose(jax.vmap(lambda x: stored(x, power=3).total)(x[:, None]), x**3)
    np.testing.assert_allclose(jax.jit(lambda x: stored(x).total + stored(jnp.ones(2)).total)(x), 7)
    assert jax.eval_shape(stored, x).total.shape == ()
    assert not list(folder.glob("*"))


def test_what_cannot_be_stored_is_jit(folder, monkeypatch):
    def printing(x):
        jax.debug.callback(lambda: None)
        return x

    def random(key):
        return jax.random.uniform(key), jax.random.split(key)

    def unnamed(x, *, function):
        return function(x)

    key = jax.random.key(0)
    assert stored_program(printing)(1.0) == 1
    keys = stored_program(random)(key)
    np.testing.assert_array_equal(keys[0], jax.random.uniform(key))
    unnamed_ = stored_program(unnamed, static_argnames=("function",))
    assert unnamed_(4.0, function=lambda x: x + 1) == 5
    with jax.debug_nans(True):
        Traced().stored()(jnp.ones(3))
    assert not list(folder.glob("*"))
    monkeypatch.setattr(_programs, "_usable", lambda: False)
    stored = Traced().stored()
    assert stored(jnp.ones(3)).total == 3
    assert stored._cache_size() == 1
    assert not list(folder.glob("*"))


def test_errors_are_those_of_the_function(folder):
    def wrong(x):
        raise ValueError("what is wrong")

    with pytest.raises(ValueError, match="what is wrong"):
        stored_program(wrong)(1.0)
    with pytest.raises(TypeError, match="str"):
        Traced().stored()("text")


def test_a_disk_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(_programs, "_user_folder", lambda: str(tmp_path / "file"))
    traced = Traced()
    stored = traced.stored()
    for _ in range(3):
        assert stored(jnp.ones(3)).total == 3
    assert traced.count == 1


def test_functions_of_one_name_have_programs_of_their_own(folder):
    def here():
        def function(x):
            return x + 1

        return function

    def there():
        def function(x):
            return x + 2

        return function

    assert here().__name__ == there().__name__
    for made, expected in ((here, 1), (there, 2)) * 2:
        assert stored_program(made())(jnp.zeros(())) == expected
    assert len(list(folder.iterdir())) == 2


def test_outputs_are_bound_to_a_device_where_an_argument_is(folder):
    stored, x = Traced().stored(), jax.device_put(jnp.arange(3.0), jax.devices()[0])
    for _ in range(2):
        assert_same(stored(x), stored.jitted(x))
        assert stored(x).total.committed
    assert not stored(jnp.arange(3.0)).total.committed


def test_an_array_that_was_deleted_costs_no_program(folder):
    Traced().stored()(jnp.ones(3))
    stored, deleted = Traced().stored(), jnp.ones(3)
    deleted.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        stored(deleted)
    assert len(list(folder.iterdir())) == 1
    stored(jnp.ones(3))
    assert stored._cache_size() == 1


def test_under_a_mesh_it_is_jit(folder):
    mesh = jax.make_mesh((1,), ("heads",))
    with jax.set_mesh(mesh):
        stored = Traced().stored()
        assert_same(stored(np.ones(3)), stored.jitted(np.ones(3)))
    assert not list(folder.glob("*"))


def test_programs_lie_where_the_user_has_jax_keep_its_own_else_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for named, expected in (
        (None, None),
        (str(tmp_path / "own"), str(tmp_path / "own")),
        (str(tmp_path / "digitaltwin" / "jax-programs-of-a-command"), None),
    ):
        monkeypatch.setattr(_programs, "_setting", lambda _, named=named: named)
        assert _programs._user_folder() == expected


@pytest.mark.parametrize("usable", [True, False])
def test_programs_are_said_to_be_stored_only_where_they_are(tmp_path, monkeypatch, usable):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_programs, "_user_folder", lambda: str(tmp_path))
    monkeypatch.setattr(_programs, "_usable", lambda: usable)
    assert not programs_stored()
    _programs.note_programs_stored()
    assert programs_stored() == (usable and jax.default_backend() == "cpu")


PROGRAM = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from digitaltwin.io import _programs
    jax.config.update("jax_compilation_cache_dir", None)

    def spectrum(x, *, shift):
        print("traced")
        square = x @ x.T + shift * jnp.eye(4)
        return {"half": jnp.linalg.cholesky(square), "values": jnp.linalg.eigvalsh(square)}

    stored = _programs.stored_program(spectrum, static_argnames=("shift",))
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    devices = jax.devices()
    results = [stored(x, shift=2.0), stored(jax.device_put(x, devices[-1]), shift=2.0), stored(x, shift=2.0)]
    for result in results:
        np.testing.assert_allclose(result["half"] @ result["half"].T, x @ x.T + 2 * np.eye(4), atol=1e-3)
    assert results[1]["half"].devices() == {devices[-1]}, results[1]["half"].devices()
    jnp.add(jax.device_put(x.T @ x, devices[-1]), results[0]["values"][:3])  # uncommitted, as jit's results are
"""


@pytest.mark.parametrize("devices", [1, 2])
def test_in_processes_of_their_own(folder, tmp_path, devices, monkeypatch):
    """Linear algebra too, whose routines a process must look up before it runs a program that calls them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    traces = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("traced") for _ in range(2)
    ]
    # With two devices, the one that is not the default one is left to jit, which shares the trace.
    assert traces == ([1, 0] if devices == 1 else [1, 1])


@pytest.mark.parametrize("option", ["xla_cpu_use_fusion_emitters", "xla_no_such_option"])
def test_options_of_the_compiler_change_no_result_and_one_it_does_not_know_is_left_out(folder, option):
    traced = Traced()
    x = jnp.arange(3.0)
    with_option = stored_program(traced.function, static_argnames=("power",), options={option: False})
    assert_same(with_option(x), traced.stored()(x))
    assert len(list(folder.rglob("*.entry"))) == 1
