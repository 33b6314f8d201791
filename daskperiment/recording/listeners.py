"""Those who take part in what a recorder does now and then."""

from __future__ import annotations

from daskperiment.store.protocol import Owner

__all__ = ["RecorderListener"]


class RecorderListener:
    """Somebody who takes part in what a recorder does now and then.

    Such as whoever follows trials that other processes compute. Each method may be left out.
    """

    def __bool__(self) -> bool:
        """Whether the background thread has to run for it."""
        return False

    def on_flush(self) -> None:
        """Write what is still to be written, before all is delivered; may raise StoreError."""

    def trials_alive(self) -> set[Owner]:
        """Return the trials to send signs of life for; may raise StoreError."""
        return set()

    def on_beat(self, trials: set[int]) -> None:
        """Look after the trials that run here, a few times a minute; may raise StoreError."""

    def on_close(self) -> None:
        """Write what is still to be written: the process ends."""

    def on_loss(self) -> None:
        """Read anew what was read of the store: it lost records, and may give out ids again."""

    def on_forget(self) -> None:
        """Forget what was read of the store: its records are about to be deleted."""
