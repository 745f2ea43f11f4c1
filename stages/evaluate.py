"""Stage 6: measure the predictor on the test images, and the labels that training arrived at.

The first stage after the split that opens the hidden labels; nothing flows back from it to training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline_lib.params.load import load
from pipeline_lib.training.determinism import deterministic_torch, pin_processor
from pipeline_lib.training.resume import resume_root
from stages.cli import run, say

DATA, MODELS, REPORTS = Path("data"), Path("models"), Path("reports")


def main() -> None:
    """Write reports/metrics.json, reports/evaluate/ and reports/labels.*."""
    params = load()
    pin_processor(params.train.reproducible, params.train.threads)
    # After the environment is pinned: these import torch.
    import torch

    from pipeline_lib.evaluation.evaluate import evaluate
    from pipeline_lib.memory import ImageMemory
    from pipeline_lib.training.device import choose_device

    deterministic_torch(params.train.threads)
    device = choose_device(params.train.device)
    host = torch.device("cpu")  # each test image is looked at once
    memory = ImageMemory(params.train.memory_budget, host, resume_root(), say)
    show(evaluate(DATA, MODELS, REPORTS, params.method, params.evaluate, device, memory))


def show(metrics: dict[str, Any]) -> None:
    """Print the numbers that matter most: a table on a terminal, plain lines elsewhere."""
    test, val, train = metrics["test"], metrics["val"], metrics["train"]
    low, high = test["accuracy_low"], test["accuracy_high"]
    drawn = f" in {test['groups']} groups" if "groups" in test else ""
    lines = {
        "test accuracy": f"{test['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}, {test['images']} images{drawn})",
        "macro F1, NLL, ECE": f"{test['macro_f1']:.4f}, {test['nll']:.4f}, {test['ece']:.4f}",
    }
    if val["accuracy"] is not None:
        lines["val accuracy"] = f"{val['accuracy']:.4f} ({val['images']} images)"
    if train["disambiguation_accuracy_ambiguous"] is not None:  # else nothing had to be recovered
        lines["training labels right"] = f"{train['disambiguation_accuracy']:.4f}"
    if not sys.stdout.isatty():
        print(*(f"{name}: {value}" for name, value in lines.items()), sep="\n")
        return
    table = Table(title=f"{metrics['method']} on {metrics['dataset']}", show_header=False)
    for row in lines.items():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    run(main)
