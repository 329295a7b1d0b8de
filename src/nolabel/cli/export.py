"""`nolabel export`: a learned text encoder for other libraries."""

from pathlib import Path

import typer


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn`."),
    to: str = typer.Option(..., "--to", help="sentence-transformers, hf (transformers) or onnx."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder to make; RUN-FORMAT by default."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write a learned text encoder as a folder that other libraries open; its vectors there are those here in float32."""
    from nolabel.cli.output import answer, pairs
    from nolabel.training import export, load

    folder = export(load(run), out or run.with_name(f"{run.name}-{to}"), to)
    opened = {
        "sentence-transformers": f'SentenceTransformer("{folder}")',
        "hf": f'AutoModel.from_pretrained("{folder}"), AutoTokenizer.from_pretrained("{folder}")',
        "onnx": f'onnxruntime.InferenceSession("{folder}/model.onnx")',
    }
    summary = {"folder": str(folder), "format": to, "open with": opened[to]}
    answer(summary, as_json, pairs(None, summary))
