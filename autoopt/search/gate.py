"""The gate of a candidate: asks the training desk, and waits for its turn."""

from __future__ import annotations

import threading

from autoopt.records import Candidate, Eliminated
from autoopt.search.desk import TrainingDesk
from autoopt.search.remote import StoppedError
from autoopt.workers.entry import Postponed, Standing

ASK_AGAIN_S = 0.7
"""Who waits is rung for when a trainer is free; but the front moves, too, and time passes."""


class DeskGate:
    """The gate of one candidate.

    Args:
        desk: the job's.
        interrupted: ends the candidate alone.
    """

    def __init__(self, desk: TrainingDesk, interrupted: threading.Event | None = None) -> None:
        self._desk = desk
        self._interrupted = interrupted or threading.Event()
        self._bell = threading.Event()

    def wait_for_start(self, candidate: Candidate) -> None:
        """Until the reference has been measured, which every measurement is paired with.

        Raises:
            StoppedError: the job stops.
        """
        while not self._desk.wait_for_beginning(ASK_AGAIN_S):
            if self._desk.heartbeat(candidate.id) or self._interrupted.is_set():
                raise StoppedError

    def compares(self) -> bool:
        """Whether something faster than the reference has been measured."""
        return self._desk.compares()

    def admit(self, standing: Standing) -> Eliminated | Postponed | None:
        """None to go on; what becomes of the candidate where it ends here."""
        while True:
            self._bell.clear()
            answer = self._desk.ask(standing, self._bell.set)
            if answer.stop or self._interrupted.is_set():
                raise StoppedError
            if answer.postponed is not None:
                return Postponed(answer.postponed)
            if answer.go or answer.eliminated is not None:
                return answer.eliminated
            self._bell.wait(ASK_AGAIN_S)

    def release(self, standing: Standing) -> None:
        """Give the trainer back while the candidate is served and measured."""
        self._desk.done(standing)
