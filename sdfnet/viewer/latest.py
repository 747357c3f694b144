"""Answers to requests that come faster than they can be made: a coarse one at once, a fine one when the hand rests.

Only the newest request counts. A thread makes coarse answers; a second one makes the fine answer, once no new request
has come for a while. An answer to a request that a newer answer has overtaken is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_LOGGER = logging.getLogger(__name__)


class LatestAnswers(Generic[Request, Answer]):
    """Makes answers to the newest request in two threads, and hands them on in order.

    Parameters
    ----------
    make : callable
        Takes a request, and whether the answer is to be fine; runs in a thread of its own.
    deliver : callable
        Takes a request, its answer, and whether it is fine. It is never called by two threads at once.
    failed : callable
        Takes a request and the error of `make`.
    rest : float
        Seconds without a new request before the fine answer is begun.
    """

    def __init__(
        self,
        make: Callable[[Request, bool], Answer],
        deliver: Callable[[Request, Answer, bool], None],
        failed: Callable[[Request, Exception], None],
        *,
        rest: float,
    ) -> None:
        self._make, self._deliver, self._failed, self._rest = make, deliver, failed, rest
        self._changed = threading.Condition()
        self._delivering = threading.Lock()
        self._request: Request | None = None
        self._number = self._delivered = 0
        self._is_fine = self._closed = False
        self.num_dropped = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._coarse, self._fine)]
        for thread in self._threads:
            thread.start()

    def ask(self, request: Request) -> None:
        """Replace the request. An answer to an older one is no longer wanted."""
        with self._changed:
            self._request, self._number = request, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Stop both threads; an answer that is being made is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=30)

    def _coarse(self) -> None:
        done = 0
        while self._wait(done, None):
            done, request = self._number, self._request
            self._answer(request, done, fine=False)  # type: ignore[arg-type]

    def _fine(self) -> None:
        done = 0
        while self._wait(done, None):
            done = self._number
            while self._wait(done, self._rest):
                done = self._number
            if not self._closed:
                self._answer(self._request, done, fine=True)  # type: ignore[arg-type]

    def _wait(self, number: int, timeout: float | None) -> bool:
        """Wait for a request after `number`. Return False at the end of the time, or if closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self._number > number, timeout) and not self._closed

    def _answer(self, request: Request, number: int, *, fine: bool) -> None:
        try:
            answer = self._make(request, fine)
            with self._delivering:
                overtaken = number < self._delivered or (number == self._delivered and self._is_fine)
                if self._closed or overtaken or (fine and number < self._number):
                    self.num_dropped += 1
                    return
                self._delivered, self._is_fine = number, fine
                self._deliver(request, answer, fine)
        except Exception as error:  # An error must not end the thread: the next request may have an answer.
            _LOGGER.debug("no answer", exc_info=True)
            if number == self._number and not self._closed:
                self._failed(request, error)
