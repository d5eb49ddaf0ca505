"""TensorBoard: the lines of metrics.jsonl as scalars, in RUN/tensorboard; look at them with `tensorboard --logdir RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corsar.errors import ConfigError

NOT_SCALARS = {"epoch", "step"}


def summary_writer() -> Any:
    """The class that writes; ConfigError where the package is absent."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "run.tensorboard = true needs the package tensorboard; install it with: pip install 'corsar[tensorboard]'"
        ) from None
    return SummaryWriter


class Board:
    """Writes what the log gets; a run that goes on from `step` takes back the points behind it."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = summary_writer()(str(folder), purge_step=step + 1 if step else None)

    def write(self, line: dict[str, Any]) -> None:
        """The numbers of a line of metrics.jsonl as points at its step: `steps/loss`, `epoch/score`."""
        for name, value in line.items():
            if name not in NOT_SCALARS and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])
        self._writer.flush()  # so that a run that is killed has lost nothing that its checkpoint counts

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
