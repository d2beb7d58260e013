"""The threads of the library that numpy multiplies matrices with."""

from contextlib import AbstractContextManager


def one_blas_thread() -> AbstractContextManager[object]:
    """Give a block in which a product takes one thread: where every core has a thread of ours, theirs only spin."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits
