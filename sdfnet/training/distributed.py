"""Several processes, started by torchrun, train together: which codes each process owns, and how they agree.

Every process holds the whole decoder and the codes of its own shapes. The code in row s of the table belongs to process
s mod count, where it is row s // count. Codes and their optimizer moments are sent between processes only when the
state is saved. A single process sends nothing.

Every step uses collectives (sums of gradients, flags, gathered codes). Events that happen once use the launcher's
key-value store. A process waits for the store in a Python loop, so that it still receives signals.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = datetime.timedelta(days=1)
"""A process waits this long for another process. If the other process ends, the waiting process notices at once."""

_POLL_SECONDS = 0.1
_FAILED = "failed"
_joins = itertools.count()


@dataclass(frozen=True, eq=False)
class Processes:
    """The processes of one training, from the view of one of them.

    >>> Processes(rank=1, count=4).own
    slice(1, None, 4)
    """

    rank: int = 0
    """The number of this process. The first process, 0, writes the run."""
    count: int = 1
    store: dist.Store | None = None
    """The key-value store that all processes share, or None for a single process."""
    _calls: Iterator[int] = field(default_factory=itertools.count)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def number_here(self) -> int:
        """The number of this process among those on this machine."""
        return int(os.environ.get("LOCAL_RANK", "0")) if self.count > 1 else 0

    @property
    def count_here(self) -> int:
        """The number of processes on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    @property
    def own(self) -> slice:
        """The rows of the table of codes that this process owns."""
        return slice(self.rank, None, self.count)


ALONE = Processes()
"""The only process of a training."""


class TrainingInterrupted(KeyboardInterrupt):
    """The training was stopped by Ctrl-C or a termination signal. The state is saved; the message says how to continue.

    All processes stop together after the same step.

    >>> issubclass(TrainingInterrupted, KeyboardInterrupt)
    True
    """


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, so that no step is interrupted. A second signal acts at once."""
    received: list[int] = []
    previous = {}

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with contextlib.suppress(ValueError):  # Only the main thread can set handlers; elsewhere no signal arrives.
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def join_processes() -> Iterator[Processes]:
    """Yield the processes that torchrun started, or ALONE. The process leaves the group at the end of the block.

    The block may raise in several processes: a wrong option raises in all, and the end of one process breaks the next
    collective of the others. Then only the first failed process raises its exception. The other processes end silently
    with SystemExit.

    >>> with join_processes() as processes:
    ...     processes.count
    1
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, rank, count = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))
    store = dist.PrefixStore(f"training/{next(_joins)}", store)  # A sweep joins once for each of its jobs.
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=count, timeout=_PATIENCE
    )
    # A process that fails at once must not close its connections while another one is still making them.
    store.set(f"joined/{rank}", "")
    store.wait([f"joined/{other}" for other in range(count)], _PATIENCE)
    processes = Processes(rank, count, dist.PrefixStore("words", store))
    try:
        yield processes
    except BaseException as error:
        if not _speaks_for_all(processes, error):
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
        if isinstance(error, RuntimeError) and any(word in str(error) for word in ("onnection", "gloo", "NCCL")):
            raise ValueError(
                "another process of this training ended unexpectedly. Repeat the same command to go on from the last "
                "save"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _speaks_for_all(processes: Processes, error: BaseException) -> bool:
    """Tell whether this process is the first that failed."""
    if isinstance(error, TrainingInterrupted):
        return processes.is_first
    assert processes.store is not None
    try:
        return processes.store.compare_set(_FAILED, "", str(processes.rank)).decode() == str(processes.rank)
    except RuntimeError:  # The launcher that kept the store has gone.
        return processes.is_first


def do_first(processes: Processes, work: Callable[[], Any]) -> Any:
    """Let the first process do `work` while the others wait. Return the result (JSON values) in all processes.

    If the first process fails, the others end with SystemExit.

    >>> do_first(ALONE, lambda: "done by the first process")
    'done by the first process'
    """
    if processes.store is None:
        return work()
    key = f"first/{next(processes._calls)}"
    if processes.is_first:
        result = work()
        processes.store.set(key, json.dumps(result))
        return result
    while not processes.store.check([key]):
        if processes.store.check([_FAILED]):
            raise SystemExit(1)
        time.sleep(_POLL_SECONDS)
    return json.loads(processes.store.get(key))


def any_of(processes: Processes, *flags: bool) -> tuple[bool, ...]:
    """Return whether each flag is set in any process. All processes must call this function at the same point."""
    if processes.count == 1:
        return flags
    tensor = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in tensor.tolist())


def sum_in_place(processes: Processes, tensors: Sequence[Tensor]) -> None:
    """Replace each of `tensors` by its sum over the processes, in one message for all tensors."""
    if processes.count == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view(tensor.shape))


def gather_rows(processes: Processes, rows: Tensor, num_rows: int) -> Tensor | None:
    """Gather the table (num_rows, ...) in the first process from the rows of all. Return None in the others."""
    if processes.count == 1:
        return rows
    longest = -(-num_rows // processes.count)
    padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype)
    padded[: len(rows)] = rows.detach().cpu()
    parts = [torch.empty_like(padded) for _ in range(processes.count)] if processes.is_first else None
    dist.gather(padded, parts, dst=0)
    if parts is None:
        return None
    return torch.stack(parts, dim=1).flatten(0, 1)[:num_rows].to(rows.device)


def set_random_state(processes: Processes, *, seed: int, step: int, device: torch.device) -> None:
    """Give every process except the first its own random numbers in this step. They depend on seed and step.

    Dropout then differs between the processes. The first process continues with the random state that checkpoints save.
    """
    if processes.is_first:
        return
    number = (seed * 2**40 + step) * processes.count + processes.rank
    torch.set_rng_state(torch.Generator().manual_seed(number % 2**63).get_state())
    if device.type == "cuda":
        torch.cuda.set_rng_state(torch.Generator(device).manual_seed(number % 2**63).get_state(), device)
