"""Batches prepared ahead of time by threads, in the same order whatever the number of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from stdcl.data.dataset import Batch, IntArray, SkeletonDataset


def prefetch(
    dataset: SkeletonDataset,
    epoch: int,
    batches: Iterable[IntArray],
    *,
    threads: int = 1,
    ahead: int = 2,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of an epoch in order while the next ones are being prepared.

    Threads share the store's memory map; no process is started and nothing is copied between processes. An
    error in a thread is raised where its batch would have come. Leaving the loop early (or closing the
    generator) cancels what was not begun and waits for what was, so no thread outlives the iterator.

    Args:
        dataset: the items.
        epoch: passed on to :meth:`SkeletonDataset.batch`.
        batches: item numbers of each batch, already this rank's part.
        threads: threads that prepare batches; 0 prepares them in the caller.
        ahead: batches a thread may be ahead of the caller (bounds the memory).
        pin_memory: return batches in page-locked memory (CUDA).
    """

    def make(items: IntArray) -> Batch:
        batch = dataset.batch(epoch, items)
        return batch.pin_memory() if pin_memory else batch

    if threads == 0:
        for items in batches:
            yield make(items)
        return
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="stdcl-data")
    try:
        waiting: deque[Future[Batch]] = deque()
        for items in batches:
            waiting.append(pool.submit(make, items))
            if len(waiting) > threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
