"""LanceDB, imported without what an embedded index never uses.

A third of the time of ``import lancedb`` goes into describing the calls of a REST client for remote namespaces. The package
of that client is put off here: it is there as before for whoever names something in it, and is made only then.
"""

import importlib.util
import sys
import threading

CLIENT = "lance_namespace_urllib3_client"


def put_off(name: str) -> None:
    """Let a package be imported without running it; the first look at one of its names runs it.

    Nothing happens where it is imported already or not installed. Its submodules can be imported before.
    """
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    package, loader, lock = importlib.util.module_from_spec(spec), spec.loader, threading.RLock()

    def look(attribute: str) -> object:
        if attribute.startswith("__"):  # asked by the import system of every module
            raise AttributeError(attribute)
        with lock:
            if vars(package).pop("__getattr__", None) is not None:
                loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = look
    sys.modules[name] = package


put_off(CLIENT)

import lancedb  # noqa: E402 (after its client was put off)

__all__ = ["lancedb"]
