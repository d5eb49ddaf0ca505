"""A folder that lives as long as an object."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class TemporaryFolder:
    """A new empty folder, deleted with the object or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="corsar-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
