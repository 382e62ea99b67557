"""Counts the time of work that may be killed and taken up again."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from dream_env.files import write_text


class Meter:
    """Adds up the CPU and wall time of a piece of work over all attempts, kept in a file every few seconds.

    Args:
        file: Where the time is kept, as JSON; what earlier attempts took is read from it.
        every: Seconds between two savings; a kill loses no more than that.
    """

    def __init__(self, file: Path, every: float = 5.0) -> None:
        self.file, self.every = file, every
        before = json.loads(file.read_text()) if file.is_file() else {"cpu_s": 0.0, "wall_s": 0.0}
        self._cpu, self._wall = before["cpu_s"], before["wall_s"]
        self._stop = threading.Event()

    def __enter__(self) -> Meter:
        """Starts to count."""
        self._began = time.process_time(), time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops, whatever happened."""
        self._stop.set()
        self._thread.join()
        self._save()

    def forget(self) -> None:
        """Begins at 0 again: what was done so far is lost."""
        self._cpu = self._wall = 0.0
        self._began = time.process_time(), time.monotonic()

    @property
    def cpu_s(self) -> float:
        """CPU time of this process in the work (s); its child processes do not count."""
        return self._cpu + time.process_time() - self._began[0]

    @property
    def wall_s(self) -> float:
        """Wall time of the work (s)."""
        return self._wall + time.monotonic() - self._began[1]

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            self._save()

    def _save(self) -> None:
        write_text(self.file, json.dumps({"cpu_s": self.cpu_s, "wall_s": self.wall_s}) + "\n")
