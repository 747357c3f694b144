"""Coarse answers at once, fine ones when requests rest, and stale ones dropped."""

from __future__ import annotations

import threading
import time

from sdfnet.viewer.latest import LatestAnswers


class Desk:
    """Collects what is delivered; `make` waits for `gate` when it makes the coarse answer of `slow`."""

    def __init__(self, rest: float = 0.05, slow: str = "") -> None:
        self.delivered: list[tuple[str, bool]] = []
        self.failures: list[str] = []
        self.gate, self.slow = threading.Event(), slow
        self.answers = LatestAnswers[str, str](self.make, self.deliver, self.fail, rest=rest)

    def make(self, request: str, fine: bool) -> str:
        if request == "bad":
            raise ValueError("no surface")
        if request == self.slow and not fine:
            self.gate.wait(10)
        return request

    def deliver(self, request: str, answer: str, fine: bool) -> None:
        assert request == answer
        self.delivered.append((request, fine))

    def fail(self, request: str, error: Exception) -> None:
        self.failures.append(str(error))

    def until(self, wanted: tuple[str, bool]) -> None:
        end = time.monotonic() + 10
        while wanted not in self.delivered:
            assert time.monotonic() < end, self.delivered
            time.sleep(0.005)


def test_a_request_gets_a_coarse_and_then_a_fine_answer() -> None:
    desk = Desk()
    desk.answers.ask("a")
    desk.until(("a", True))
    assert desk.delivered == [("a", False), ("a", True)]
    desk.answers.close()


def test_only_the_last_of_quick_requests_is_answered_finely() -> None:
    desk = Desk(rest=0.3)
    for request in "abcdefgh":
        desk.answers.ask(request)
        time.sleep(0.01)
    desk.until(("h", True))
    assert [request for request, fine in desk.delivered if fine] == ["h"]
    assert ("h", False) in desk.delivered
    desk.answers.close()


def test_a_coarse_answer_that_comes_after_a_newer_fine_one_is_dropped() -> None:
    desk = Desk(slow="slow")
    desk.answers.ask("slow")
    desk.until(("slow", True))  # the fine thread overtakes the coarse one, which hangs
    desk.answers.ask("new")
    desk.until(("new", True))
    desk.gate.set()
    time.sleep(0.1)
    assert ("slow", False) not in desk.delivered
    assert desk.answers.num_dropped >= 1
    desk.answers.close()


def test_an_error_is_told_and_the_next_request_is_answered() -> None:
    desk = Desk()
    desk.answers.ask("bad")
    end = time.monotonic() + 10
    while not desk.failures:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert desk.failures[0] == "no surface"
    desk.answers.ask("good")
    desk.until(("good", True))
    desk.answers.close()
    desk.answers.ask("late")
    time.sleep(0.05)
    assert all(request != "late" for request, _ in desk.delivered)
