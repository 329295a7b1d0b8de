"""Whether this process speaks for a run; known without PyTorch, which a command that is misspelt need not wait for."""

import os
import sys

#: Environment variable: where the processes that one of them started find each other.
MEETING = "NOLABEL_MEETING"


def first_rank() -> bool:
    """Whether this process is the one that writes and speaks for all; also before the processes have found each other.

    Processes that train each for itself, such as the tasks of a job array, are all first.

    >>> first_rank()
    True
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank()) == 0
    if MEETING in os.environ:
        return os.environ.get("LOCAL_RANK", "0") == "0"
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"
