"""The catalogue of timm models: it says what conversion says."""

from importlib import resources

import pytest
import timm

from pipeline.backbone_list import list_backbones
from pipeline.catalogue import load_catalogue, write_catalogue
from pipeline.errors import RequestError
from pipeline.networks.families import FAMILIES, REFUSALS
from pipeline.networks.stages import UnsupportedBackboneError
from pipeline.survey import explain, survey

SAMPLE = [
    "resnet18",
    "mobilenetv2_100",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "vgg11",
    "resnet10t",
]


@pytest.mark.parametrize("name", SAMPLE)
def test_the_catalogue_says_what_conversion_says(name):
    assert load_catalogue().entries[name] == survey(name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_the_catalogue_says_what_conversion_says_of_all_names():
    assert load_catalogue().entries == {name: survey(name) for name in timm.list_models()}


def test_the_catalogue_holds_every_name_of_its_timm_and_a_thousand_are_supported():
    catalogue = load_catalogue()
    assert catalogue.is_current
    assert catalogue.entries.keys() == set(timm.list_models())
    assert sum(entry.is_supported for entry in catalogue.entries.values()) >= 1000


def test_every_family_supports_a_model_and_no_class_is_both_supported_and_refused():
    supported = {entry.family for entry in load_catalogue().entries.values() if entry.is_supported}
    assert supported == FAMILIES.keys()
    assert FAMILIES.keys().isdisjoint(REFUSALS)


def test_every_refused_class_says_which_property_it_lacks():
    refused = {entry.family for entry in load_catalogue().entries.values() if not entry.is_supported}
    assert refused <= FAMILIES.keys() | REFUSALS.keys()


def test_a_catalogue_survives_its_file(tmp_path):
    entries = load_catalogue().entries
    write_catalogue(entries.values(), tmp_path / "backbones.csv")
    packaged = resources.files("pipeline").joinpath("backbones.csv")
    assert (tmp_path / "backbones.csv").read_text() == packaged.read_text()


def test_a_refused_model_is_told_with_its_property_and_three_supported_ones_of_similar_size():
    catalogue = load_catalogue()
    message = explain(UnsupportedBackboneError("densenet121", "its blocks concatenate features"))
    stated, _, names = message.partition("; supported and of similar size: ")
    assert "its blocks concatenate features" in stated
    near = [catalogue.entries[name] for name in names.split(", ")]
    assert len(near) == 3
    own = catalogue.entries["densenet121"].parameters
    assert all(entry.is_supported and 0.8 < entry.parameters / own < 1.25 for entry in near)


def test_a_pattern_lists_the_models_that_it_matches():
    table = list_backbones(load_catalogue(), "convnext_tiny*", refused=False)
    assert {row[0] for row in table.rows} == set(timm.list_models("convnext_tiny*"))


def test_a_class_lists_its_models():
    table = list_backbones(load_catalogue(), "swintransformer", refused=False)
    assert set(timm.list_models("swin_*")) <= {row[0] for row in table.rows}


def test_refused_models_are_listed_with_their_reason():
    rows = dict(list_backbones(load_catalogue(), "vgg*", refused=True).rows)
    assert rows["vgg16"].startswith("its layers form a chain")


@pytest.mark.parametrize(
    ("pattern", "refused", "message"),
    [
        ("resnet5O", False, "got 'resnet5O'; did you mean resnet50"),
        ("vgg*", False, r"'vgg\*' means 8 models of timm, all of them refused; `--refused` shows why"),
        ("resnet50", True, "all of them supported; leave out --refused"),
    ],
)
def test_a_pattern_without_a_match_says_what_to_write(pattern, refused, message):
    with pytest.raises(RequestError, match=message):
        list_backbones(load_catalogue(), pattern, refused=refused)
