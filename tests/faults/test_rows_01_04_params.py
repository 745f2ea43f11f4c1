"""What a mistake in params.yaml is answered with (FAULTS rows 1 to 4): one line that says what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from pipeline_lib.params.methods import KINDS
from stages import configure

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def keys_of(text: str) -> dict[str, int]:
    """Dotted key -> index of its line."""
    keys: dict[str, int] = {}
    above: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        if found := re.match(r"( *)(\w+):", line):
            indent = len(found[1])
            above = [(depth, name) for depth, name in above if depth < indent]
            above.append((indent, found[2]))
            keys[".".join(name for _, name in above)] = number
    return keys


# What is compared has names of the user's own, which the last section holds.
KEYS = {key: n for key, n in keys_of(TEXT).items() if not key.startswith("compare.")}


def with_value(key: str, value: str, text: str = TEXT) -> str:
    """params.yaml with another value (as YAML) for one key."""
    lines = text.splitlines()
    number = KEYS[key]
    lines[number] = f"{lines[number].split(':')[0]}: {value}"
    return "\n".join(lines) + "\n"


def with_values(**changes: str) -> str:
    """The same for several keys, `__` standing for the dot."""
    text = TEXT
    for key, value in changes.items():
        text = with_value(key.replace("__", "."), value, text)
    return text


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


@pytest.fixture(scope="module")
def refuse(params):
    """`refuse(content)`: the message with which a file of this content is refused."""

    def refused(content: str | bytes) -> str:
        params.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError) as caught:
            load(params)
        message = str(caught.value).replace(str(params), "params.yaml")
        assert all(line.startswith("params.yaml") for line in message.splitlines())
        return message

    return refused


def mistyped(name: str, place: int, slip: str) -> str:
    place %= len(name)
    if slip == "lost":
        return name[:place] + name[place + 1 :]
    if slip == "twice":
        return name[: place + 1] + name[place:]
    return name[:place] + name[place : place + 2][::-1] + name[place + 2 :]


def test_the_file_of_the_project_is_as_these_tests_read_it():
    assert load(ROOT / "params.yaml").method in KINDS
    assert {"seed", "data", "train.learning_rate", "methods.cr_dpll.bn"} < set(KEYS)


@settings(max_examples=60)
@given(st.sampled_from(list(KEYS)), st.integers(0, 30), st.sampled_from(["lost", "twice", "swap"]))
@example("methods.cr_dpll.bn", 0, "swap")
@example("seed", 0, "lost")
@example("train", 1, "swap")
@example("methods.fixmatch", 0, "lost")
def test_row_1_a_mistyped_key_is_named_with_the_right_one(refuse, key, place, slip):
    name = key.rpartition(".")[2]
    wrong = mistyped(name, place, slip)
    path = key[: len(key) - len(name)] + wrong
    assume(path not in KEYS)  # as train.device, of train.devices
    lines = TEXT.splitlines()
    lines[KEYS[key]] = lines[KEYS[key]].replace(f"{name}:", f"{wrong}:", 1)
    expected = f"params.yaml: {path}: unknown key (did you mean {name!r}?)"
    assert refuse("\n".join(lines)) == expected  # and no second line on the key that is missing


@pytest.mark.parametrize(
    ("key", "has"),
    [
        ("methods.fixmatch.p_cutoff", "methods.fixmatch has unlabeled_ratio, threshold, lambda_u"),
        ("split.num_labels", "split has protocol, test_fraction, "),
        ("train.amp", "train has epochs, steps_per_epoch, "),
        ("data.dataset", "data has name, path, "),
        ("algorithm", "the file has seed, method, data, "),
    ],
)
def test_row_1_a_key_of_another_codebase_is_answered_with_those_there_are(refuse, key, has):
    section, _, name = key.rpartition(".")
    lines = TEXT.splitlines()
    at = KEYS[section] + 1 if section else 0
    lines.insert(at, f"{' ' * 2 * len(section.split('.')) if section else ''}{name}: 1")
    message = refuse("\n".join(lines))
    assert message.startswith(f"params.yaml: {key}: unknown key; {has}")
    assert "\n" not in message


def test_row_1_a_key_that_another_is_a_part_of(refuse):
    text = TEXT.replace("    labels: 100 ", "    num_labels: 100 ", 1)
    message = refuse(text)
    assert message == "params.yaml: split.few_shot.num_labels: unknown key (did you mean 'labels'?)"


@pytest.mark.parametrize(
    ("key", "also"),
    [
        ("data.table", {}),
        ("data.sha256", {}),
        ("data.image_size", {}),
        ("split.few_shot.labels", {"split__few_shot__labels_per_class": "10"}),
        ("split.class_dependent.matrix", {}),
    ],
)
def test_row_2_an_empty_text_is_null_where_that_is_allowed(params, key, also):
    """As `-S data.table=` writes it."""
    params.write_text(with_value(key, "''", with_values(**also)))
    found = load(params)
    for name in key.split("."):
        found = getattr(found, name)
    assert found is None


@pytest.mark.parametrize("key", ["seed", "data.name", "train.epochs"])
def test_row_2_an_empty_text_is_no_null_elsewhere(refuse, key):
    assert refuse(with_value(key, "''")).startswith(f"params.yaml: {key}: '': input should be")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"0.1"', "'0.1'"),
        ("true", "True"),
        (".nan", "nan"),
        (".inf", "inf"),
        ("1.0e+400", "inf"),
        ("-1", "-1"),
        ("0", "0"),
        ("", "None"),
        ("[0.1]", "[0.1]"),
    ],
)
def test_row_2_a_learning_rate_that_is_none(refuse, value, shown):
    message = refuse(with_value("train.learning_rate", value))
    assert message.startswith(f"params.yaml: train.learning_rate: {shown}: input should be ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("value", "shown"), [("0", "0"), ("4097", "4097"), ("true", "True"), ("all", "'all'")]
)
def test_row_2_a_number_of_processes_that_is_none(refuse, value, shown):
    assert refuse(with_value("train.devices", value)) == (
        f"params.yaml: train.devices: {shown}: set a number of processes from 1 to 4096, or auto"
    )


@pytest.mark.parametrize(("value", "number"), [("1e-3", 0.001), ("5", 5.0), ("2.5E-1", 0.25)])
def test_row_2_a_learning_rate_means_what_dvc_records(params, value, number):
    params.write_text(with_value("train.learning_rate", value))
    rate = load(params).train.learning_rate
    assert type(rate) is float
    assert rate == number == load_yaml(str(params))["train"]["learning_rate"]


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("cr_dpl", "cr_dpll"),
        ("pawden", "proden"),
        ("averge", "average"),
        ("FixMatch", "fixmatch"),
        ("CR-DPLL", "cr_dpll"),
    ],
)
def test_row_3_an_unknown_method(refuse, given_, meant):
    message = refuse(with_value("method", given_))
    assert message == (
        f"params.yaml: method: {given_!r} is not one of {', '.join(KINDS)} "
        f"(did you mean {meant!r}?)"
    )


@pytest.mark.parametrize(
    "name", ["flexmatch", "ReMixMatch", "Mean-Teacher", "uda", "abs_mae", "rc"]
)
def test_row_3_a_published_method_that_is_not_offered(refuse, name):
    """Not answered with another one that is called nearly so."""
    expected = f"is not offered; methods are {', '.join(KINDS)}"
    assert refuse(with_value("method", name)) == f"params.yaml: method: {name!r} {expected}"
    plain = name.casefold().replace("-", "")
    compared = TEXT.replace("    supervised: {tried: 0", f"    {plain}: {{tried: 0", 1)
    assert refuse(compared) == f"params.yaml: compare.methods.{plain}: {expected}"


@pytest.mark.parametrize(
    ("name", "here"), [("fullysupervised", "oracle"), ("CRDPLL", "cr_dpll"), ("VATT", None)]
)
def test_row_3_what_a_method_is_called_elsewhere(refuse, name, here):
    message = refuse(with_value("method", name))
    assert message == (
        f"params.yaml: method: {name!r} is not one of {', '.join(KINDS)}"
        f"{f' (did you mean {here!r}?)' if here else ''}"
    )


def test_names_of_classes_that_are_numbers(refuse):
    """YAML reads 3 as a number; the digits' classes are called so."""
    message = refuse(with_value("split.class_dependent.matrix", "{3: {'8': 0.4}}"))
    assert message == "params.yaml: split.class_dependent.matrix.3: 3 is no text; put it in quotes"
    message = refuse(with_value("split.class_dependent.superclasses", "{low: ['0', 1]}"))
    assert message == (
        "params.yaml: split.class_dependent.superclasses.low.1: 1 is no text; put it in quotes"
    )


@pytest.mark.parametrize("view", ["weak", "strong", "global"])
def test_a_view_that_would_change_its_size(refuse, view):
    message = refuse(with_value(f"train.{view}_augment", "small_crop"))
    assert message == (
        f"params.yaml: train.{view}_augment: 'small_crop' makes images smaller, which only "
        f"train.small_augment may"
    )


@pytest.mark.parametrize(
    ("given", "meant"), [("randaugment_2_31", "randaugment"), ("cropflip", "crop_flip")]
)
def test_an_unknown_view(refuse, given, meant):
    message = refuse(with_value("train.strong_augment", given))
    assert message.startswith(
        f"params.yaml: train.strong_augment: {given!r}: input should be one of"
    )
    assert message.endswith(
        f"or randaugment_N_M with N operations (1 to 9) of magnitude M (0 to 30) "
        f"(did you mean {meant!r}?)"
    )


@pytest.mark.parametrize("method", sorted(set(KINDS) - {"oracle"}))
def test_candidate_sets_for_all_images_suit_those_that_learn_from_them(refuse, params, method):
    """The others need images with one label."""
    text = with_value("split.protocol", "uniform_candidates")
    text = text.replace("method: cr_dpll", f"method: {method}", 1)
    if method not in {"supervised", "snn", "paws", "pawsb"}:
        params.write_text(text)
        assert load(params).method == method
    else:
        message = refuse(text)
        assert message.startswith("params.yaml: split.protocol: uniform_candidates gives every ")
        assert f"and {method} learns from labeled" in message


def test_row_4_a_key_given_twice(refuse):
    number = KEYS["train.momentum"]
    lines = TEXT.splitlines()
    lines[number] = "  epochs: 3"
    message = refuse("\n".join(lines))
    assert message.startswith(f"params.yaml:{number + 1}: ")
    assert "duplicate key" in message
    assert "epochs" in message
    assert "\n" not in message


def test_row_4_a_tab(refuse):
    number = KEYS["train.momentum"]
    lines = TEXT.splitlines()
    lines[number] = "\tmomentum: 0.9"
    message = refuse("\n".join(lines))
    assert message.startswith(f"params.yaml:{number + 1}: ")
    assert "'\\t'" in message
    assert "\n" not in message


def test_row_4_another_version_of_yaml(refuse):
    assert "begins with %" in refuse("\ufeff%YAML 1.1\n---\n" + TEXT)
    message = refuse("# A comment.\n%YAML 1.1\n---\n" + TEXT)
    assert message == "params.yaml:2: a line that begins with % changes what values mean; remove it"


def test_row_4_a_merge_that_was_not_finished(refuse):
    number = KEYS["seed"]
    lines = TEXT.splitlines()
    lines[number : number + 1] = ["<<<<<<< HEAD", "seed: 1", "=======", "seed: 2", ">>>>>>> other"]
    message = refuse("\n".join(lines))
    assert message.startswith(f"params.yaml:{number + 1}: a merge of Git has left both sides here")
    assert "\n" not in message


def test_row_4_a_byte_that_is_not_utf8(refuse):
    number = KEYS["model.name"]
    lines = TEXT.encode().splitlines()
    lines[number] += b" caf\xe9 "
    assert refuse(b"\n".join(lines)) == (
        f"params.yaml:{number + 1}: not UTF-8 (byte 0xe9); save the file as UTF-8"
    )


@pytest.mark.parametrize("content", ["", "# nothing\n", "- a\n- b\n", "word\n", "3\n"])
def test_a_file_without_sections(refuse, content):
    assert "holds no sections" in refuse(content)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml: not found; run from the root"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__name": "image_folder"}, "data.path: image_folder needs the folder, archive"),
        (
            {"data__path": "http://images.example/a.zip", "data__sha256": "a" * 64},
            "data.path: only https URLs are fetched",
        ),
        (
            {"data__name": "image_folder", "data__path": "https://images.example/a.zip"},
            "data.sha256: a URL needs the sha256 of its file",
        ),
        ({"data__sha256": "abc"}, "data.sha256: 'abc': string should match pattern"),
        ({"data__channels": "grey"}, "data.channels: 'grey': input should be 'auto', 'rgb' or"),
        (
            {"split__few_shot__labels_per_class": "5"},
            "split.few_shot: set either labels or labels_per_class",
        ),
        ({"split__few_shot__labels": ""}, "split.few_shot: set either labels or labels_per_class"),
        ({"data__fold": "0"}, "data.fold: digits has no folds, only stl10; set it to null"),
        (
            {
                "data__name": "stl10",
                "data__fold": "0",
                "split__protocol": "few_shot",
                "method": "fixmatch",
            },
            "data.fold: chooses the labels, and split.protocol few_shot would weaken all of them; set",
        ),
        (
            {"data__name": "image_folder", "data__path": "photos", "data__table": "partialY.npy"},
            "data.table: partialY.npy: .npy is not read; write a table of `file,candidates` (docs/",
        ),
        (
            {"data__name": "image_folder", "data__path": "photos", "data__table": "../Lost.MAT"},
            "data.table: ../Lost.MAT: .mat is not read; write a table of `file,candidates` (docs/",
        ),
        (
            {"data__table": "labels.csv"},
            "data.table: digits has labels of its own; set it to null, or",
        ),
        ({"train__momentum": "0.0"}, "train.nesterov: needs a momentum above 0"),
        (
            {"train__patience": "2", "train__select": "last"},
            "train.patience: needs a rule by which an evaluation can be worse",
        ),
        ({"seed": "-1"}, "seed: -1: input should be greater than or equal to 0"),
        ({"seed": "9223372036854775808"}, "seed: 9223372036854775808: input should be less than"),
        (
            {"model__name": "smal_cnn"},
            "model.name: no model 'smal_cnn' (did you mean 'small_cnn'?); choose small_cnn,",
        ),
    ],
    ids=str,
)
def test_values_that_do_not_fit_together(refuse, changes, message):
    refused = refuse(with_values(**changes))
    assert refused.startswith(f"params.yaml: {message}")
    assert "\n" not in refused


def test_multi_step_without_milestones(refuse):
    text = re.sub(r"(milestones:.*\n)( *- \d+\n)+", r"\1", TEXT)
    text = re.sub(r"schedule: \w+", "schedule: multi_step", text, count=1)
    message = refuse(re.sub(r"milestones: ", "milestones: []", text, count=1))
    assert message == "params.yaml: train.milestones: multi_step needs at least one epoch"


def test_every_mistake_has_a_line(refuse):
    text = with_values(train__epochs="-1", data__image_size="two", report__grid_images="1000")
    keys = [line.split(": ")[1] for line in refuse(text).splitlines()]
    assert keys == ["data.image_size", "train.epochs", "report.grid_images"]


def test_a_choice_that_is_mistyped(refuse):
    message = refuse(with_value("train.schedule", "one_cycl"))
    assert message.endswith("(did you mean 'one_cycle'?)")


def test_configure_says_it_at_once_and_writes_nothing(tmp_path):
    (tmp_path / "params.yaml").write_text(with_value("train.learning_rate", "-1"))
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "stages.configure"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    took = after.children_user + after.children_system
    took -= before.children_user + before.children_system
    assert took < 1  # s of a processor; a quarter of it where nothing heavy is loaded
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == ("params.yaml: train.learning_rate: -1: input should be greater than 0\n")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_row_4_what_only_the_parser_of_dvc_refuses(refuse):
    """A flow sequence with a colon, which the parser in Python takes for a mapping or a text."""
    message = refuse(with_value("data.path", "[x:1, b]"))
    assert re.fullmatch(r"params\.yaml:\d+: .+", message)
    assert "data.path" not in message, "before the values are looked at"


def test_a_place_that_is_not_read_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, path, told in (
        ("cifar10", "/data/mine", True),
        ("cifar10", "null", False),
        ("image_folder", "/data/mine", False),
    ):
        text = with_value("data.path", path, with_value("data.name", name))
        (tmp_path / "params.yaml").write_text(text)
        configure.main()
        said = capsys.readouterr().out
        assert (f"data.path plays no part: {name} is not read from there" in said) == told


def test_a_method_that_git_did_not_copy_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(TEXT)
    monkeypatch.setattr(configure, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"methods/cr_dpll\.py: not found; `git add` it"):
        configure.main()
    assert not (tmp_path / "data").exists()
