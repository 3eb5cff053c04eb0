"""Timing of the stages of a long job, and telling whoever listens, so that library code never prints."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, float], None]

_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time a stage, and tell the listeners when it is done; a stage that raises is not reported.

    Args:
        seconds: Gets the stage's wall time [s] under its name.
        name: A word or two.

    Example:
        >>> seconds = {}
        >>> with listen(lambda name, taken: print(name, taken < 1.0)), stage(seconds, "nothing"):
        ...     pass
        nothing True
        >>> list(seconds)
        ['nothing']
    """
    begun = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begun, 4)
    for listener in _LISTENERS.get():
        listener(name, seconds[name])


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call a function with name and seconds of every stage that ends within the block, in this thread."""
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)
