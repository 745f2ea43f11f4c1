"""Read params.yaml and say in one line per mistake what is wrong with it."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline_lib.errors import UserError, closest, did_you_mean, in_one_line, listed
from pipeline_lib.params.compare import Compare
from pipeline_lib.params.methods import KINDS, Methods, MethodSection, why_no_method
from pipeline_lib.params.sections import Data, Evaluate, Model, Report, Section, Train
from pipeline_lib.params.split import Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

PARAMS = Path("params.yaml")
CONFLICT = "<<<<<<< "  # of Git, above the two sides
LONGEST = 900  # characters of a line on a mistake
MOST_KEYS = 15  # of a section that a line lists
# What YAML raises besides errors of its own: a date that is none, 5,000 digits, 2,000 brackets.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
# Protocols that leave no image unlabeled, and hardly one labeled.
CANDIDATE_SETS = ("uniform_candidates", "class_dependent", "instance_candidates", "annotators")
SUPERCLASSED = ("cifar100",)  # datasets that come with superclasses


class Params(Section):
    """The whole file. A stage takes the part that it is declared to depend on, and nothing else."""

    seed: int = Field(ge=0, lt=2**63)
    """The seed of everything: splits, candidates, weights, order, augmentation."""
    method: str
    """Which method trains: a name from `methods`."""
    data: Data
    split: Split
    model: Model
    train: Train
    methods: Methods
    evaluate: Evaluate
    report: Report
    compare: Compare

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in KINDS:
            msg = f"{name!r} {why_no_method(name)}"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _labels_suit_the_method(self) -> Self:
        """Refuse candidate sets of several classes each for methods that need labeled images.

        These learn from the sets that happen to hold one class.
        """
        protocol = self.split.protocol
        ambiguous = protocol in CANDIDATE_SETS and getattr(
            getattr(self.split, protocol), "force_ambiguous", False
        )
        if ambiguous and self.method_params.ONLY_LABELED:
            msg = (
                f"split.protocol: {protocol} gives every image several candidates, and {self.method} learns "
                f"from labeled images; set auto, few_shot or mixed, or split.{protocol}.force_ambiguous to false"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _superclasses_are_known(self) -> Self:
        options = self.split.class_dependent
        needed = self.split.protocol == "class_dependent" and options.similar == "superclasses"
        if needed and options.superclasses is None and self.data.name not in SUPERCLASSED:
            msg = (
                f"split.class_dependent.superclasses: {self.data.name} has none of its own; name them, as "
                f"{{pets: [cat, dog], ...}}, or take similar: matrix"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _a_fold_keeps_its_labels(self) -> Self:
        if self.data.fold is not None and self.split.protocol not in {"auto", "given"}:
            msg = (
                f"data.fold: chooses the labels, and split.protocol {self.split.protocol} would weaken all of "
                f"them; set split.protocol to auto, or data.fold to null"
            )
            raise ValueError(msg)
        return self

    @property
    def method_params(self) -> MethodSection:
        """The section of the chosen method."""
        section: MethodSection = getattr(self.methods, self.method)
        return section


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: One line per mistake: file, key, what is wrong, and the closest valid name.
    """
    return check(read_yaml(path), path)


def check(content: Mapping[str, Any], path: Path) -> Params:
    """Check the content of `path`, or what it would be.

    Raises:
        UserError: See `load`.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        errors = error.errors()
        lines = [
            in_one_line(f"{path}: {_explain(details, errors)}", LONGEST)
            for details in _without_echoes(errors)
        ]
        raise UserError("\n".join(lines)) from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read YAML 1.2, as DVC does: `1e-3` is a number, a repeated key is an error, what DVC cannot read too.

    Raises:
        UserError: There is no such file, or it is not YAML, or holds no sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        msg = f"{path}: not found; run from the root of the repository, where `git restore {path}` brings it back"
        raise UserError(msg) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        msg = f"{path}:{line}: not UTF-8 (byte {error.object[error.start]:#04x}); save the file as UTF-8"
        raise UserError(msg) from error
    for number, written in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if written.startswith("%"):  # %YAML 1.1: to DVC `yes` would be another value than here
            msg = f"{path}:{number}: a line that begins with % changes what values mean; remove it"
            raise UserError(msg)
        if written.startswith(CONFLICT):
            msg = f"{path}:{number}: a merge of Git has left both sides here; keep one, without the lines of <, = and >"
            raise UserError(msg)
    try:
        content = YAML(typ="safe", pure=True).load(text)
        YAML(typ="safe").load(text)  # the parser of DVC, which refuses some of what the other takes
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        problem = in_one_line((error.problem or error.context or "not YAML").partition("\n")[0])
        msg = f"{path}{where}: {problem}"
        raise UserError(msg) from error
    except (YAMLError, *_UNREADABLE) as error:
        msg = f"{path}: not YAML: {in_one_line(error)}"
        raise UserError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: holds no sections; restore it with `git checkout {path}`"
        raise UserError(msg)
    return content


def in_yaml(value: object) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_echoes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out the keys that are missing only because they are misspelt: the misspelling is told."""
    misspelt = {
        (*details["loc"][:-1], meant)
        for details in errors
        if details["type"] == "extra_forbidden" and (meant := _meant(details, errors))
    }
    return [e for e in errors if e["type"] != "missing" or e["loc"] not in misspelt]


def _meant(details: ErrorDetails, errors: list[ErrorDetails]) -> str | None:
    """The key that an unknown one stands for: like it, and rather one that is missing beside it."""
    *section, given = details["loc"]
    missing = [
        str(e["loc"][-1]) for e in errors if e["type"] == "missing" and [*e["loc"][:-1]] == section
    ]
    close = closest(str(given), missing) or closest(str(given), _names_beside(details["loc"]))
    return close[0] if close else None


def _explain(details: ErrorDetails, errors: list[ErrorDetails]) -> str:
    key = ".".join(map(str, details["loc"])).removesuffix(".[key]")
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        meant, names = _meant(details, errors), _names_beside(details["loc"])
        if not meant and names:
            section = key.rpartition(".")[0] or "the file"
            return f"{key}: unknown key; {section} has {listed(names, MOST_KEYS)}"
        return f"{key}: unknown key" + (f" (did you mean {meant!r}?)" if meant else "")
    if kind == "missing":
        return f"{key}: missing; params.yaml names every knob"
    if kind == "value_error":
        message = str(details["ctx"]["error"])
        return message if message.startswith(key) else f"{key}: {message}"
    if kind == "string_type" and isinstance(given, int | float):
        return f"{key}: {_shown(given)} is no text; put it in quotes"
    message = details["msg"][0].lower() + details["msg"][1:]
    choices = did_you_mean(str(given), _quoted(message)) if kind == "literal_error" else ""
    return f"{key}: {_shown(given)}: {message}{choices}"


def _shown(given: object) -> str:
    """The value as Python writes it, cut short: aliases of YAML can make it larger than any memory."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = 80
    return short.repr(given)


def _names_beside(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the section that `location` points into."""
    section: type[BaseModel] = Params
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)


def _quoted(message: str) -> list[str]:
    return message.split("'")[1::2]
