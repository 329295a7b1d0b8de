"""`nolabel explore`: a page where a person looks at a run, searches it and marks what is in it."""

from pathlib import Path

import typer


def command(
    run: Path = typer.Argument(..., help="Run folder with an index."),
    against: Path | None = typer.Option(None, "--against", help="A second run of the same items, to see what changed."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; any but this machine's own demands a token."),
    port: int = typer.Option(0, min=0, max=65535, help="Port to listen at; 0 takes a free one."),
    token: str | None = typer.Option(
        None, envvar="NOLABEL_TOKEN", help="Token to demand; made up where one is needed."
    ),
    browser: bool = typer.Option(True, help="Open the page in the browser."),
    as_json: bool = typer.Option(False, "--json", help="Print the address as JSON."),
) -> None:
    """Open a page with the map of a run: search it, see its clusters and scores, mark items and save the subset."""
    import importlib.util
    import json
    import sys

    missing = [name for name in ("fastapi", "uvicorn", "multipart") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"explore needs {missing[0]}, which is not installed: pip install 'nolabel[web]'")
    from nolabel.explorer.serving import serve

    def tell(address: str) -> None:
        print(json.dumps({"address": address}) if as_json else f"{address}  (Ctrl-C ends it)", flush=True)

    opens = browser and sys.stdout.isatty()
    serve(run, against, host=host, port=port, token=token, browser=opens, tell=tell)
