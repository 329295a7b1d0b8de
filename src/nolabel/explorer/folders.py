"""What a folder must hold to be explored; told before anything heavy is imported."""

from pathlib import Path

INDEX = "index.lance"


def run_folder(folder: Path) -> Path:
    """The whole path of a run folder with an index.

    Raises
    ------
    FileNotFoundError, ValueError : no folder, no index in it
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no run folder at {folder}")
    if not (folder / INDEX).is_dir():
        names = sorted(path.name for path in folder.iterdir())
        held = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") or "nothing"
        raise ValueError(f"{folder} has no index to explore: it holds {held}")
    return folder.resolve()
