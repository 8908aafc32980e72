"""Requests to stop: SIGTERM from a cluster, SIGINT from a keyboard.

After the first signal the current step is finished, so that the state can be saved; a second one stops at
once. Python runs handlers in the main thread only; elsewhere (a notebook's worker) nothing is caught.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger("vision_jax")


class Stopped(SystemExit):
    """The run was asked to stop; the exit code is 128 and the signal's number (143, 130).

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class StopRequest:
    """Catches SIGTERM and SIGINT while it is open.

    Attributes:
        received: the signal that was received, or None.
        waits: whether the loop will check `received` soon. Where it will not (opening the data, a stage
            without gradients) a signal raises `Stopped` at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_received(self) -> None:
        """Raises `Stopped` if a signal was received."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None or not self.waits:
            self.received = number
            logger.warning(
                "stopped by %s; the steps since the last checkpoint are not saved",
                signal.Signals(number).name,
            )
            raise Stopped(number)
        self.received = number
