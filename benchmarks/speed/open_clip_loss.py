"""open_clip's loss by itself, from the peers' environment: a peer of the benchmarks of contrastive losses.

`import open_clip` needs torchvision, which does not work next to the CPU build of torch, so that its file ``loss.py`` is loaded
alone.
"""

import functools
import importlib.util
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.speed.peer import peers_python

ASK = "import importlib.util as i, importlib.metadata as m; print(i.find_spec('open_clip').origin, m.version('open_clip_torch'))"


@functools.cache
def _found() -> tuple[str, str]:
    """The file of open_clip's losses, and its version."""
    asked = subprocess.run([peers_python(), "-c", ASK], capture_output=True, text=True)
    if asked.returncode:
        raise SystemExit(f"the peers' environment lacks open_clip_torch: see requirements.txt ({asked.stderr[-200:]})")
    origin, number = asked.stdout.split()
    return str(Path(origin).with_name("loss.py")), number


def version() -> str:
    return _found()[1]


@functools.cache
def clip_loss() -> Any:
    spec = importlib.util.spec_from_file_location("open_clip_loss", _found()[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipLoss()
