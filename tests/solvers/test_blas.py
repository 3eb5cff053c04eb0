"""The limit of BLAS threads: inside a block one, afterwards what was there before, however blocks nest and overlap."""

import threading

import pytest
import threadpoolctl

from digitaltwin.solvers import single_blas_thread


def threads():
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads():
    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        yield


def test_blocks_nest():
    with single_blas_thread():
        with single_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


def test_a_block_that_raises_restores():
    def fail():
        with single_blas_thread():
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert threads() == {2}


def test_blocks_of_two_threads_overlap():
    """The first to begin ends before the second: the limit holds until the second ends, and is then lifted."""
    begun, ended = threading.Event(), threading.Event()

    def other():
        with single_blas_thread():
            begun.set()
            ended.wait(timeout=30)

    thread = threading.Thread(target=other)
    with single_blas_thread():
        thread.start()
        begun.wait(timeout=30)
    assert threads() == {1}
    ended.set()
    thread.join()
    assert threads() == {2}
