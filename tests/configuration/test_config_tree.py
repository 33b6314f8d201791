"""Configurations as trees of leaves: read, checked, and made again of values."""

from __future__ import annotations

import pickle

import pytest

from daskperiment.configuration import ConfigTree, build
from daskperiment.errors import ConfigurationError, InputFileError
from daskperiment.no_value import NO_VALUE
from tests.configuration.settings import (
    TREES,
    Config,
    Kind,
    Opt,
    Required,
    ResNet,
    Secretive,
    ViT,
)


def values_of(tree):
    return {name: leaf.default for name, leaf in tree.leaves.items()}


@pytest.mark.parametrize("name", TREES)
def test_round_trip(name):
    """The object that is made of the leaves is the one that was given, also after a pickle."""
    tree = ConfigTree(TREES[name])
    again = pickle.loads(pickle.dumps(tree))
    made = build(again.section, values_of(again))
    assert next(iter(tree.leaves)) == "opt.lr"
    assert tree.leaves["opt.lr"].default == 0.1
    assert made == (Config() if name == "class" else TREES[name])


def test_leaves_of_a_dataclass():
    """Nested classes are sections; lists and declared dicts are leaves; what follows is neither."""
    tree = ConfigTree(Config(opt=Opt(0.5, Kind.SGD), epochs=3))
    assert values_of(tree) == {
        "opt.lr": 0.5, "opt.kind": Kind.SGD, "epochs": 3, "layers": [8, 4], "extra": {},
    }  # fmt: skip
    assert build(tree.section, values_of(tree)).total == 6


def test_required_fields():
    """A field without a default is a leaf without a value; a section is told by its type."""
    tree = ConfigTree(Required)
    assert tree.leaves["path"].default is NO_VALUE
    assert tree.leaves["opt.lr"].default == 0.1
    assert tree.parsed("path", "data", str) == build(
        tree.section, {"path": tree.parsed("path", "data", str), "opt.lr": 1, "opt.kind": Kind.SGD}
    ).path  # fmt: skip


def test_values_of_sections():
    """The values of a section may be given together, as a mapping or as an object."""
    tree = ConfigTree(Config())
    assert tree.spread({"opt": {"lr": 1}, "epochs": 3}) == {"opt.lr": 1, "epochs": 3}
    assert tree.spread({"opt": Opt(2.0)}) == {"opt.lr": 2.0, "opt.kind": Kind.ADAM}
    with pytest.raises(ConfigurationError, match=r"opt is None .*Opt or values .*opt\.lr, "):
        tree.spread({"epochs": 3, "opt": None})


FILES = {
    "a.yaml": "opt:\n  lr: 0.1\n  names: [a, b]\nepochs: 2\n",
    "a.yml": "{opt: {lr: 0.1, names: [a, b]}, epochs: 2}",
    "a.toml": 'epochs = 2\n[opt]\nlr = 0.1\nnames = ["a", "b"]\n',
    "a.json": '{"opt": {"lr": 0.1, "names": ["a", "b"]}, "epochs": 2}',
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    """YAML, TOML and JSON are read by their endings, given as text or as a path."""
    (tmp_path / name).write_text(FILES[name])
    for path in (tmp_path / name, str(tmp_path / name)):
        expected = {"opt.lr": 0.1, "opt.names": ["a", "b"], "epochs": 2}
        assert values_of(ConfigTree(path)) == expected


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "a: [", "is no YAML"), ("a.json", "{", "is no JSON"),
        ("a.toml", "=", "is no TOML"),
        ("a.ini", "", "expected one of .yaml"), ("a.yaml", "- 1", "expected names and values"),
        ("a.yaml", "", "expected names and values"), ("a.yaml", "a.b: 1", "without a dot"),
        ("a.yaml", "1: {a: 2}", "expected text"),
        ("a.yml", "a: 1\nb: {c: 1, d: 2,\n  c: 3}", "'c' stands there twice in .* line 2"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "is no JSON: 'b' stands there twice"),
        ("a.toml", "a = 1\na = 2", "is no TOML"), ("a.yml", "a: 1\n---\nb: 2", "is no YAML"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path, name, text, told):
    """What is wrong with a file is told with its name."""
    (tmp_path / name).write_text(text)
    with pytest.raises((ConfigurationError, TypeError), match=told):
        ConfigTree(tmp_path / name)


def test_numbers_and_anchors_of_yaml(tmp_path):
    """Numbers are those of YAML 1.2; what is merged by an anchor may be given another value."""
    text = "a: &a {lr: 1e-3, b: -2.E+4, c: .5e2, d: 1e, e: e3}\nf: {<<: *a, lr: 5, g: '1e-3'}"
    (tmp_path / "a.yaml").write_text(text)
    same = {"b": -2e4, "c": 50.0, "d": "1e", "e": "e3"}
    tree = ConfigTree(tmp_path / "a.yaml")
    assert build(tree.section, values_of(tree)) == {
        "a": {"lr": 0.001, **same}, "f": {"lr": 5, **same, "g": "1e-3"},
    }  # fmt: skip


def test_missing_file(tmp_path):
    """A file that is not there is an error as for other files."""
    with pytest.raises(InputFileError, match=r"a\.yaml"):
        ConfigTree(tmp_path / "a.yaml")


@pytest.mark.parametrize("source", [3, None, [1], object(), int, Secretive(1)])
def test_no_configuration(source):
    """What is no configuration is refused with what it may be."""
    with pytest.raises(TypeError, match=r"expected a dict, a dataclass|only when it is made"):
        ConfigTree(source)


def test_defaults_are_checked():
    """A default that does not fit its annotation is found when the tree is declared."""
    with pytest.raises(ConfigurationError, match=r"opt\.lr is 'high' \(str\); expected float"):
        ConfigTree(Config(opt=Opt("high")))


def test_classes_have_their_say():
    """Values that a class refuses are refused with what it says."""
    tree = ConfigTree(Config())
    with pytest.raises(ConfigurationError, match="epochs=-1: ValueError: epochs has to be positi"):
        tree.check({**values_of(tree), "epochs": -1}, {"epochs": -1})


VARIANTS = {"resnet": ResNet, "vit": ViT(patch=8)}


@pytest.mark.parametrize(
    ("standing", "chosen"),
    [({"model": "vit"}, "vit"), ({"model": None}, "resnet"), ({}, "resnet"),
     ({"model": ViT(patch=8)}, "vit")],
)  # fmt: skip
def test_variant_that_stands(standing, chosen):
    """The tree says which variant stands, by its name or by being equal to it; else the first."""
    tree = ConfigTree({"lr": 0.1, **standing}, {"model": VARIANTS})
    assert tree.leaves["model"].default == chosen
    assert tree.part("model.depth") is not None


def test_variants():
    """The defaults of leaves are those of the chosen variant; a leaf that it lacks is None."""
    tree = ConfigTree({"lr": 0.1}, {"model": VARIANTS})
    assert tree.dependent({}) == {"model.depth": 18, "model.width": 1.0, "model.patch": None}
    assert tree.dependent({"model": "vit", "model.depth": 3}) == {
        "model.width": None, "model.patch": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "variants", "told"),
    [
        ({"model": "cnn"}, {"model": VARIANTS}, "'cnn' at 'model', which is none of its variants"),
        ({"a": {"b": 1}}, {"c.model": VARIANTS}, "no section for the variants of 'c.model'"),
        ({}, {"model": {}}, "expected a dict of name"),
        ({}, {"model": 3}, "expected a dict of name"),
        ({}, {"model": {"a": 3}}, "expected a dict, a dataclass"),
    ],
)  # fmt: skip
def test_wrong_variants(source, variants, told):
    """What is wrong with a group of variants is told with its path."""
    with pytest.raises((ConfigurationError, TypeError), match=told):
        ConfigTree(source, variants)


def test_variants_within():
    """A group may stand within a section, and be read from files."""
    tree = ConfigTree({"net": {"name": "a"}}, {"net.model": {"big": {"n": 3}, "small": {"n": 1}}})
    values = {**values_of(tree), "net.model": "small", **tree.dependent({"net.model": "small"})}
    assert build(tree.section, values) == {"net": {"name": "a", "model": {"n": 1}}}
