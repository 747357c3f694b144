"""Several processes train what one does: the same batches, the same losses to rounding, the same files, one voice."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launching import QUICK, Ended, launch

from sdfnet.cli.main import main
from sdfnet.decoders import VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box
from sdfnet.mesh.io.write import save_mesh
from sdfnet.runs import load_run, load_tensors
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, train, trainer
from sdfnet.training.batches import Batch, BatchSchedule
from sdfnet.training.checkpoint import TrainingState
from sdfnet.training.distributed import Processes

NUM_SHAPES = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Samples of five boxes."""
    folder = tmp_path_factory.mktemp("several")
    for number in range(NUM_SHAPES):
        save_mesh(extract_mesh(Box([1.0, 0.4 + 0.1 * number, 0.5]), resolution=20), folder / "meshes" / f"{number}.obj")
    config = SamplerConfig(num_samples=5_000, num_surface=400, num_heldout=100)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


def words(store: SampleStore, run: Path, *more: str) -> list[str]:
    tiny = ["decoder=volume", "decoder.channels=[16,8,8]", "decoder.width=16", "decoder.latent_size=8"]
    training = ["batch_shapes=4", "batch_points=256", "previews=0", "evaluations=3", "precision=float32"]
    return [
        *("train", f"samples={store.directory}", f"run={run}", "steps=30", *tiny),
        *(f"training.{word}" for word in training),
        *more,
    ]


def schedules(store: SampleStore, count: int, **options: int) -> list[BatchSchedule]:
    values = {"batch_shapes": 4, "batch_points": 64, "num_surface": 16, "seed": 0} | options
    return [
        BatchSchedule(store, tuple(range(NUM_SHAPES)), **values, processes=Processes(rank, count))
        for rank in range(count)
    ]


def curve(run: Path) -> list[list[float]]:
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [[float(value or 0) for value in row[:8]] for row in list(csv.reader(file))[1:]]  # Not counts of signs.


def assert_same_training(one: Path, other: Path) -> None:
    """The same curve, codes and state up to the rounding of sums taken in another order."""
    assert len(curve(one)) == len(curve(other)) == 30
    found, expected = torch.tensor(curve(other)), torch.tensor(curve(one))
    torch.testing.assert_close(found[:10, :3], expected[:10, :3], rtol=1e-5, atol=1e-7)  # step, loss, sdf
    torch.testing.assert_close(found[:, :3], expected[:, :3], rtol=5e-4, atol=1e-6)  # rounding grows by and by
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-6)  # the prior's is small and follows the codes
    (expected, about), (found, about_found) = (load_tensors(run / "state.safetensors") for run in (one, other))
    assert about == about_found == {"step": "30"}
    assert {name: tensor.shape for name, tensor in expected.items()} == {
        name: tensor.shape for name, tensor in found.items()
    }
    # A coordinate of a code with hardly any gradient moves with the rounding of it: Adam divides by its size.
    torch.testing.assert_close(found["latents"], expected["latents"], rtol=1e-3, atol=3e-4)
    assert load_run(other).latents.equal(found["latents"])


def contents(batch: Batch, slots: list[int]) -> list[tuple[int, bytes, bytes, bytes]]:
    assert batch.surface_BM6 is not None
    rows = zip(slots, batch.points_BN3, batch.sdf_BN, batch.surface_BM6, strict=True)
    return [(slot, *(part.numpy().tobytes() for part in parts)) for slot, *parts in rows]


@pytest.mark.parametrize(("count", "strata"), [(2, 1), (3, 1), (2, 2), (4, 4), (5, 1)])
def test_together_the_processes_read_the_batch_of_one(store: SampleStore, count: int, strata: int) -> None:
    device = torch.device("cpu")
    (alone,) = schedules(store, 1, strata=strata)
    parts = schedules(store, count, strata=strata)
    for step in range(12):
        whole = alone.batch(step, device=device)
        expected = sorted(contents(whole, whole.slots.tolist()))
        seen = []
        for rank, part in enumerate(parts):
            batch = part.batch(step, device=device)
            if batch.weight == 0:
                assert batch.slots.tolist() == [0], "a row that this process owns, in their stead"
                continue
            assert batch.weight == len(batch.slots) / 4
            seen += contents(batch, [local * count + rank for local in batch.slots.tolist()])
            if strata == count:
                assert len(batch.slots) == 4 // count
        assert sorted(seen) == expected


def test_strata_are_seen_equally_often_and_one_stratum_is_what_was_before_there_were_any(store: SampleStore) -> None:
    (schedule,) = schedules(store, 1, strata=2)
    seen = Counter(slot for step in range(6) for slot, _ in schedule.slots(step))
    assert [seen[slot] for slot in range(5)] == [4, 6, 4, 6, 4], "three shapes share 12 places, two the others"
    orders = [[slot for step in range(5) for slot, _ in part.slots(step)] for part in schedules(store, 2)]
    assert orders[0] == orders[1]
    expected = np.concatenate([np.random.default_rng([0, epoch]).permutation(5) for epoch in range(4)])
    assert orders[0] == expected.tolist()


@pytest.fixture(scope="module", autouse=True)
def quick_trainings() -> Iterator[None]:
    """Let trainings of a few steps pass, though they learn nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdfnet.training.metrics._failure", lambda *_: "")
        yield


@pytest.fixture(scope="module")
def whole(store: SampleStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training by one process."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(store, run)) == 0
    return run


SLOWED = (
    QUICK.replace("{", "{{")
    + """
import os, sys, time
from sdfnet.cli.main import main
from sdfnet.training import trainer

step = trainer.train_step

def slow(state, *args, **options):
    {inside}
    return step(state, *args, **options)

trainer.train_step = slow
sys.exit(main(sys.argv[1:]))
"""
)

ONE_AFTER_ANOTHER = (
    QUICK
    + """
import os, sys
from sdfnet.cli.main import main
from sdfnet.training import trainer

step = trainer.train_step

def fails(state, *args, **options):
    assert "fails" not in line[2] or state.step < 5 or os.environ["RANK"] != "1", "no more"
    return step(state, *args, **options)

trainer.train_step = fails
for words in " ".join(sys.argv[1:]).split(" THEN "):
    line = words.split(" ")
    try:
        code = main(line)
    except SystemExit as end:  # of a process whose peer speaks for it
        code = end.code
    print(f"<{code}>", flush=True)
    print("<end>", file=sys.stderr, flush=True)
"""
)
"""Runs several command lines in the same processes, each with a group of its own: their start costs the most."""

REFUSED = (
    ("training.strata=3", 2, "strata must divide batch_shapes, got strata=3 and batch_shapes=4"),
    ("training.batch_shapes=1", 1, "2 processes cannot share 5 shapes, 1 in each step"),
    ("device=mps", 1, "device=mps cannot be shared by 2 processes"),
)


@dataclass(frozen=True)
class Together:
    """What two processes did with each of several command lines: by line, and in it by rank."""

    folder: Path
    ended: list[list[Ended]]


@pytest.fixture(scope="module")
def together(store: SampleStore, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Two processes: three trainings that are refused, one that ends well, and one that fails in one process."""
    folder = tmp_path_factory.mktemp("together")
    lines = [words(store, folder / f"refused_{number}", word) for number, (word, _, _) in enumerate(REFUSED)]
    lines += [words(store, folder / "run"), words(store, folder / "fails")]
    program = launch([" THEN ".join(" ".join(line) for line in lines)], count=2, program=ONE_AFTER_ANOTHER, timeout=90)
    assert [process.code for process in program] == [0, 0], program
    ended = []
    for process in program:
        outs, codes = re.split(r"<\d+>\n", process.out), re.findall(r"<(\d+)>\n", process.out)
        errs = process.err.split("<end>\n")
        ended.append([Ended(int(code), out, err) for code, out, err in zip(codes, outs, errs, strict=False)])
    return Together(folder, [list(ranks) for ranks in zip(*ended, strict=True)])


def assert_first_speaks(ended: list[Ended], whole: Path, run: Path) -> None:
    assert [process.code for process in ended] == [0] * len(ended), ended
    assert "5 shapes learned in 30 steps" in ended[0].out
    assert [(process.out, process.err) for process in ended[1:]] == [("", "")] * (len(ended) - 1)
    assert_same_training(whole, run)


def test_two_processes_train_what_one_does_and_only_the_first_speaks(whole: Path, together: Together) -> None:
    assert_first_speaks(together.ended[-2], whole, together.folder / "run")


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_is_refused_once(together: Together, number: int) -> None:
    _, code, message = REFUSED[number]
    ended = together.ended[number]
    assert [process.code for process in ended] == [code, code]
    assert "".join(process.err for process in ended).count(message) == 1
    assert not (together.folder / f"refused_{number}" / "run.json").exists()


def test_a_failure_in_one_process_ends_all_with_one_message(together: Together) -> None:
    first, second = together.ended[-1]
    assert (first.code, second.code) == (1, 1)
    assert "unexpected AssertionError" in second.err
    assert "no more" in second.err
    assert "rror" not in first.err.replace("surface error", "")


@pytest.mark.slow
def test_ctrl_c_stops_all_after_the_same_step_and_another_number_of_processes_goes_on(
    store: SampleStore, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def interrupt(processes: list) -> None:
        deadline = time.monotonic() + 60
        while not (run / "metrics.csv").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        processes[1].send_signal(signal.SIGINT)

    ended = launch(words(store, run), count=2, program=SLOWED.format(inside="time.sleep(0.15)"), meanwhile=interrupt)
    assert [process.code for process in ended] == [130, 130], ended
    assert ended[0].err.count("Repeat the same command to go on.") == 1
    assert ended[1].err == ""
    stopped = load_run(run).step
    assert 0 < stopped < 30
    assert main(words(store, run)) == 0
    assert "processes was 2, is 1: the result will not be to the bit" in capsys.readouterr().err
    assert_same_training(whole, run)


@pytest.mark.slow
def test_what_one_process_began_several_finish(
    store: SampleStore, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer.train_step

    def interrupted(state: TrainingState, *args: Any, **options: Any) -> Any:
        if state.step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return step(state, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", interrupted)
        assert main(words(store, tmp_path / "run")) == 130
    assert load_run(tmp_path / "run").step == 13
    ended = launch(words(store, tmp_path / "run"), count=3)
    assert "processes was 1, is 3: the result will not be to the bit" in ended[0].err
    assert_first_speaks(ended, whole, tmp_path / "run")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_last_save_is_whole(
    store: SampleStore, whole: Path, tmp_path: Path
) -> None:
    more = "training.checkpoint_seconds=0.001"
    inside = "os.kill(os.getpid(), 9) if state.step == 9 and os.environ['RANK'] == '1' else None"
    ended = launch(words(store, tmp_path / "run", more), count=2, program=SLOWED.format(inside=inside))
    assert [process.code for process in ended] == [1, -9]
    assert "another process of this training ended unexpectedly. Repeat the same command" in ended[0].err
    assert load_run(tmp_path / "run").step == 9
    assert main(words(store, tmp_path / "run", more)) == 0
    assert_same_training(whole, tmp_path / "run")


def test_more_strata_than_shapes_are_refused(store: SampleStore, tmp_path: Path) -> None:
    config = TrainingConfig(steps=2, batch_shapes=8, strata=8)
    with pytest.raises(ValueError, match=r"training\.strata=8 is more than there are shapes \(5\)"):
        train(tmp_path, store, decoder=VolumeConfig(), config=config, progress=False)
