"""Starting a command in several processes, as torchrun does but with less around it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.distributed import TCPStore

import sdfnet

QUICK = "from sdfnet.training import metrics; metrics._failure = lambda *_: ''\n"
"""Lets trainings of a few steps pass, though they learn nothing."""

CALL_MAIN = QUICK + "import sys; from sdfnet.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Ended:
    """One process of several: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def launch(
    words: Sequence[str],
    *,
    count: int,
    program: str = CALL_MAIN,
    meanwhile: Callable[[list[subprocess.Popen]], object] = lambda processes: None,
    timeout: float = 120,
) -> list[Ended]:
    """Run `program` with `words` in `count` processes that know of each other, and return how they ended, by rank."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # Outlives the processes, as torchrun's.
    place = os.path.dirname(os.path.dirname(sdfnet.__file__))
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        meanwhile(processes)
        texts = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [Ended(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]
