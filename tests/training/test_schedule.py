"""A training with a budget follows the clock, and what the clock decided is written and holds after a kill."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sdfnet.decoders import VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.mesh.io.write import save_mesh
from sdfnet.runs import MODEL_FILE, Run
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, metrics, train, trainer, verdict
from sdfnet.training.schedule import (
    FIRST_DECISION,
    SCHEDULE_FILE,
    BudgetClock,
    Decision,
    Schedule,
    load_decisions,
    rate_factor,
    save_decisions,
)

DECODER = VolumeConfig(latent_size=4, channels=(8, 8), base_resolution=4, width=16)
CONFIG = TrainingConfig(
    budget="100s", batch_shapes=1, batch_points=64, previews=0, evaluations=2, precision="float32"
)  # fmt: skip
SAVING = replace(CONFIG, checkpoint_seconds=1e-9)
"""Saves after every step."""
PREVIOUS = Path(__file__).parent.parent / "previous"


class SteppedClock:
    """A clock of our own: it stands still, and `train_step` moves it by the seconds that the step is said to take."""

    def __init__(self, seconds: Callable[[int], float], dies_at: int | None = None) -> None:
        self.now, self.seconds, self.dies_at, self.steps = 1000.0, seconds, dies_at, 0

    def __call__(self) -> float:
        return self.now

    def install(self, patch: pytest.MonkeyPatch) -> None:
        step = trainer.train_step

        def stepped(state: Any, *args: Any, **options: Any) -> Any:
            if state.step == self.dies_at:
                raise RuntimeError("killed")
            self.now += self.seconds(state.step)
            self.steps += 1
            return step(state, *args, **options)

        patch.setattr(trainer, "train_step", stepped)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("one")
    save_mesh(extract_mesh(Sphere(radius=2.0), resolution=16), folder / "meshes" / "ball.obj")
    config = SamplerConfig(num_samples=2_000, num_surface=100, num_heldout=100)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


def trained(folder: Path, store: SampleStore, clock: SteppedClock, config: TrainingConfig = CONFIG) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        return train(folder, store, decoder=DECODER, config=config, progress=False, clock=clock)


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (MODEL_FILE, "metrics.csv")}


@pytest.mark.parametrize(
    ("pace", "steps"),
    [
        (lambda step: 0.5, 200),
        (lambda step: 0.5 if step < 100 else 2.0, 125),  # The machine gets busy at half time.
        (lambda step: 2.0 if step < 25 else 0.5, 125),  # It was busy at the start.
        (lambda step: 0.5 if step % 7 else 3.5, 107),
    ],
    ids=["even", "busy later", "busy first", "uneven"],
)
def test_a_budget_holds_whatever_the_pace(store: SampleStore, tmp_path: Path, pace: Any, steps: int) -> None:
    clock = SteppedClock(pace)
    run = trained(tmp_path, store, clock)
    assert clock.now - 1000 == pytest.approx(100, abs=6)
    assert run.step == pytest.approx(steps, rel=0.08)
    assert run.document["plan"]["steps"] == run.step == clock.steps
    assert run.document["plan"]["seconds_per_step"] == pytest.approx((clock.now - 1000) / run.step)
    rates = [float(row.split(",")[6]) for row in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert rates[-1] < 0.02 * max(rates), "the rate has fallen to about 0, however many steps there were"


def test_a_killed_training_replays_the_written_decisions(store: SampleStore, tmp_path: Path) -> None:
    def pace(step: int) -> float:
        return 1.0 + 0.3 * (step % 5)

    trained(tmp_path / "whole", store, SteppedClock(pace))
    decisions = load_decisions(tmp_path / "whole")
    assert 20 < len(decisions) < 60
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "torn", store, SteppedClock(pace, dies_at=20), SAVING)
    # As if the last save were old: all decisions are written, the state is that of step 20. Now the pace is another.
    save_decisions(tmp_path / "torn", decisions)
    slow = SteppedClock(lambda step: 9.0)
    run = trained(tmp_path / "torn", store, slow)
    assert slow.steps == run.step - 20
    assert load_decisions(tmp_path / "torn")[: len(decisions)] == decisions
    whole, torn = ((tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "torn"))
    assert decisions[-1].step > 40
    assert whole[: decisions[-1].step + 1] == torn[: decisions[-1].step + 1], "a row for each step"


def test_a_training_that_was_killed_behind_its_last_decision_ends_with_the_same_bytes(
    store: SampleStore, tmp_path: Path
) -> None:
    whole = trained(tmp_path / "whole", store, SteppedClock(lambda step: 1.0))
    last = load_decisions(tmp_path / "whole")[-1].step
    assert last < whole.step
    for stop in (last - 30, last):
        with pytest.raises(RuntimeError, match="killed"):
            trained(tmp_path / "torn", store, SteppedClock(lambda step: 1.0, dies_at=stop), SAVING)
    trained(tmp_path / "torn", store, SteppedClock(lambda step: 1.0))
    assert files(tmp_path / "whole") == files(tmp_path / "torn")
    (tmp_path / "torn" / SCHEDULE_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"schedule\.json is damaged"):
        trained(tmp_path / "torn", store, SteppedClock(lambda step: 1.0))


def test_time_before_a_kill_counts(store: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path, store, SteppedClock(lambda step: 1.0, dies_at=60), SAVING)
    clock = SteppedClock(lambda step: 0.5)
    run = trained(tmp_path, store, clock)
    assert clock.now - 1000 == pytest.approx(40, abs=4)
    assert run.step == pytest.approx(60 + 80, abs=8)


def test_a_training_that_used_its_budget_still_lets_the_rate_fall(store: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path, store, SteppedClock(lambda step: 0.5 if step < 100 else 100.0, dies_at=103), SAVING)
    clock = SteppedClock(lambda step: 0.5)
    assert 104 < trained(tmp_path, store, clock).step < 114, "a tenth of the steps at most"


def test_a_finished_training_is_left_alone(store: SampleStore, tmp_path: Path) -> None:
    trained(tmp_path, store, SteppedClock(lambda step: 2.0))
    before = files(tmp_path) | {"run.json": (tmp_path / "run.json").read_bytes()}
    clock = SteppedClock(lambda step: 2.0)
    trained(tmp_path, store, clock)
    assert clock.steps == 0
    assert files(tmp_path) | {"run.json": (tmp_path / "run.json").read_bytes()} == before


def test_a_budget_that_is_too_short_for_the_fewest_steps_is_named(
    store: SampleStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="sdfnet")
    for seconds in (5.0, 0.9):
        assert trained(tmp_path / str(seconds), store, SteppedClock(lambda step, s=seconds: s)).step >= 40
    assert caplog.messages == ["budget=100s is too short for 40 steps, the fewest that sdfnet takes: about 200 s"]


def test_a_run_that_the_last_version_began_with_a_budget_finishes_under_its_plan(tmp_path: Path) -> None:
    """The bytes are those of the same training with that number of steps under the last version's rates."""
    store = SampleStore(PREVIOUS / "samples")
    document = json.loads((PREVIOUS / "run" / "run.json").read_text())
    ends = {}
    for name, length in (("steps", {"steps": 44}), ("budget", {"steps": None, "budget": "5min"})):
        folder = shutil.copytree(PREVIOUS / "run", tmp_path / name)
        document["config"]["training"] |= length
        document["plan"] = {"steps": 44, "precision": "float32", "seconds_per_step": 0.1, "compiled": False}
        (folder / "run.json").write_text(json.dumps(document))
        training = TrainingConfig(**document["config"]["training"])
        decoder = VolumeConfig(**document["config"]["decoder"])
        clock = SteppedClock(lambda step: 1e6)
        with pytest.MonkeyPatch.context() as patch:
            clock.install(patch)
            run = train(folder, store, decoder=decoder, config=training, progress=False, clock=clock)
        assert (run.step, clock.steps) == (44, 4)
        assert not (folder / SCHEDULE_FILE).exists()
        assert json.loads((folder / "run.json").read_text())["plan"] == document["plan"]
        ends[name] = files(folder)
    assert ends["steps"] == ends["budget"]


def test_the_rate_is_the_product_of_a_warm_up_and_a_late_fall() -> None:
    assert [rate_factor(share, warmup_share=0, kind="cosine") for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    late = [rate_factor(share / 100, warmup_share=0.02, kind="late") for share in range(101)]
    assert late[0] == pytest.approx(1e-3)
    assert late[2:30] == [1.0] * 28
    assert all(a > b for a, b in itertools.pairwise(late[31:]))
    assert late[-1] == 0


def test_measurements_are_due_at_equal_shares() -> None:
    for steps, times in ((300, 20), (7, 3), (40, 500), (997, 20)):
        schedule = Schedule(steps)
        for step in range(1, steps + 1):
            assert schedule.is_due(step, times) == (step * times // steps != (step - 1) * times // steps)
    followed = Schedule(decisions=(Decision(0, 0.0, 0.1, 0.0), Decision(5, 0.5, 0.25, 9.0)))
    assert [step for step in range(1, 8) if followed.is_due(step, 2)] == [5, 7]
    assert [step for step in range(1, 8) if followed.is_due(step, 4)] == [3, 5, 6, 7]


def test_the_clock_knows_how_long_it_waited_for_the_processor() -> None:
    now = 0.0
    clock = BudgetClock(100.0, clock=lambda: now, processor_clock=lambda: 0.25 * now)
    assert not clock.wants_decision((FIRST_DECISION,))
    for step in range(1, 9):
        now += 2.0
        clock.mark(step)
    assert clock.wants_decision((FIRST_DECISION,))
    decision = clock.decide((FIRST_DECISION,))
    assert (decision.seconds, decision.waited) == (16.0, 12.0)
    assert (decision.step, decision.last_step) == (8, 8 + 42)
    assert Schedule(decisions=(FIRST_DECISION, decision)).was_busy
    assert not Schedule(decisions=(FIRST_DECISION, Decision(8, 0.1, 0.1, 16.0, 1.0))).was_busy
    assert BudgetClock(100.0, clock=lambda: now).waited == 0, "nothing is known"


class BusyMachine:
    """A clock, and the processor's clock beside it. A step takes the time that `seconds(threads)` says."""

    def __init__(self, seconds: Callable[[int], float], waiting: Callable[[float], float], threads: int = 4) -> None:
        self.now, self.worked, self.seconds, self.waiting, self.threads = 0.0, 0.0, seconds, waiting, threads

    def step(self, threads: int) -> None:
        self.now += self.seconds(threads)
        self.worked += self.seconds(threads) * (1 - self.waiting(self.now))

    def clock(self, budget: float, **options: Any) -> BudgetClock:
        times = {"clock": lambda: self.now, "processor_clock": lambda: self.worked}
        return BudgetClock(budget, **{**options, "threads": self.threads, **times})


def threads_used(machine: BusyMachine) -> list[int]:
    """Return the number of threads of each step of a training of 100 s."""
    clock, schedule = machine.clock(100.0), Schedule(decisions=(FIRST_DECISION,))
    used: list[int] = []
    while schedule.share(len(used)) < 1:
        used.append(schedule.threads(len(used)) or 4)
        machine.step(used[-1])
        clock.mark(len(used))
        if clock.wants_decision(schedule.decisions):
            schedule = Schedule(decisions=(*schedule.decisions, clock.decide(schedule.decisions)))
    return used


def test_a_busy_machine_gets_fewer_threads_if_that_is_faster() -> None:
    quiet, busy = (lambda now: 0.05), (lambda now: 0.6)
    assert set(threads_used(BusyMachine(lambda threads: 0.5, quiet))) == {4}
    tried = threads_used(BusyMachine(lambda threads: {4: 2.0, 2: 0.7, 1: 0.4}[threads], busy))
    assert set(tried[-100:]) == {1}
    between = threads_used(BusyMachine(lambda threads: {4: 1.0, 2: 0.4, 1: 0.6}[threads], busy))
    assert between.count(2) > 0.8 * len(between)
    slower = threads_used(BusyMachine(lambda threads: 0.4 / threads, busy))
    assert slower.count(4) > 0.8 * len(slower), "a trial with fewer threads, and back"
    machine = BusyMachine(lambda threads: {4: 2.0, 2: 0.7, 1: 0.4}[threads], lambda now: 0.6 if now < 50 else 0.1)
    assert threads_used(machine)[-1] == 4, "all of them again on a quiet machine"
    for made in (tried, between, slower):
        assert len(made) > 40


@pytest.mark.parametrize("seconds", [{4: 2.0, 2: 1.0, 1: 0.4}, {4: 0.3, 2: 1.0, 1: 2.0}, {4: 9.0, 2: 5.0, 1: 0.2}])
def test_a_budget_holds_also_where_the_number_of_threads_changes(seconds: dict[int, float]) -> None:
    machine = BusyMachine(seconds.__getitem__, lambda now: 0.7)
    threads_used(machine)
    assert machine.now == pytest.approx(100, abs=7)


def test_the_pace_after_a_change_of_threads_is_that_of_the_new_number_alone() -> None:
    machine = BusyMachine({4: 2.0, 2: 0.25}.__getitem__, lambda now: 0.6)
    clock, decisions, step = machine.clock(100.0), (FIRST_DECISION,), 0
    while len(decisions) == 1 or not clock.wants_decision(decisions):
        step += 1
        machine.step(decisions[-1].threads or 4)
        clock.mark(step)
        if len(decisions) == 1 and clock.wants_decision(decisions):
            decisions = (*decisions, clock.decide(decisions))
            assert decisions[-1].threads == 2
    assert clock.expected_seconds(step + 100) == pytest.approx(clock.seconds + 25)


def test_a_training_uses_the_threads_of_its_decisions_also_after_a_kill(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = BusyMachine(lambda threads: {2: 2.0, 1: 1.0}[threads], lambda now: 0.6, threads=2)
    monkeypatch.setattr(trainer, "BudgetClock", lambda budget, **options: machine.clock(budget, **options))
    step, used, dies = trainer.train_step, dict[int, int](), [30]

    def stepped(state: Any, *args: Any, **options: Any) -> Any:
        if state.step in dies:
            raise RuntimeError("killed")
        used[state.step] = torch.get_num_threads()
        machine.step(used[state.step])
        return step(state, *args, **options)

    monkeypatch.setattr(trainer, "train_step", stepped)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, store, decoder=DECODER, config=SAVING, progress=False)
    first, dies[:] = dict(used), []
    assert torch.get_num_threads() == 2, "restored"
    assert set(first.values()) == {2, 1}
    used.clear()
    train(tmp_path, store, decoder=DECODER, config=SAVING, progress=False)
    decisions = Schedule(decisions=load_decisions(tmp_path))
    assert min(used) == 30
    assert all((decisions.threads(number) or 2) == count for number, count in {**first, **used}.items())
    assert used[30] == 1
    torch.set_num_threads(before)


def test_the_verdict_names_the_steps_the_plan_and_a_busy_machine(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_failure", lambda *_: "")  # So small a decoder learns little.
    run = trained(tmp_path, store, SteppedClock(lambda step: 0.5 if step < 60 else 2.5))
    planned = Schedule(decisions=load_decisions(tmp_path)).planned_steps
    assert planned == pytest.approx(200, abs=2)
    text = verdict(run, store).text
    assert text.startswith(f"1 shapes learned in {run.step} steps ({planned} were planned at the start): ")
    assert "busy" not in text
    decisions = load_decisions(tmp_path)
    waited = Decision(**{**vars(decisions[-1]), "waited": 0.7 * decisions[-1].seconds})
    save_decisions(tmp_path, (*decisions[:-1], waited))
    busy = "The machine was busy: other programs had the processor for 70% of the time"
    assert busy in verdict(run, store).text
    monkeypatch.setattr(metrics, "_failure", lambda *_: "ball has no surface yet")
    failed = verdict(run, store)
    assert failed.has_failed
    start = f"the training has failed after {run.step} steps ({planned} were planned at the start): "
    assert failed.text.startswith(f"{start}ball has no surface yet. {busy}. Train longer")
