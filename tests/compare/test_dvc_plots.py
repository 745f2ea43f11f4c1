"""What `dvc plots show` draws of a comparison: contenders are told apart, budgets and revisions too."""

import csv
import json
from pathlib import Path

import pytest
from dvc_render.vega import VegaRenderer
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / ".dvc/plots"
PLOTS = YAML(typ="safe").load(ROOT / "reports/compare/pipeline.yaml")["plots"]
DRAWN = [plot for plot in PLOTS if isinstance(plot, dict)]


def named(content, key):
    """Every value of a key, however deep."""
    if isinstance(content, list):
        return [found for each in content for found in named(each, key)]
    if not isinstance(content, dict):
        return []
    own = [content[key]] if key in content else []
    return own + [found for each in content.values() for found in named(each, key)]


@pytest.mark.parametrize("plot", DRAWN, ids=lambda plot: next(iter(plot)))
def test_contenders_are_told_apart(usual, plot):
    ((name, about),) = plot.items()
    ((file, y),) = about["y"].items()
    rows = [
        row | {"rev": rev}
        for rev in ("HEAD", "workspace")
        for row in csv.DictReader((usual.folder / file).read_text().splitlines())
    ]
    options = {key: value for key, value in about.items() if key != "y"}
    content = VegaRenderer(rows, name, template_dir=TEMPLATES, y=y, **options).get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(content)
    assert len(content["data"]["values"]) == len(rows)
    assert {color["field"] for color in named(content, "color")} == {"contender"}
    assert content["facet"]["row"]["field"] == "rev"
    kinds = {"comparison_curves": ["budget"], "comparison_means": []}[about["template"]]
    assert [column["field"] for column in named(content, "column")] == kinds
    columns = set(rows[0]) | set(named(content, "as")) - {"row"}
    fields = {field for field in named(content["spec"], "field") if isinstance(field, str)}
    assert fields <= columns
    assert fields >= {"contender", about["x"], y}
