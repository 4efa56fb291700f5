"""Variants are overrides of one base: each differs from it in what its words say, no more."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.ablations_training import is_kept
from benchmarks.ablations_variants import (
    CONDITIONS,
    FIRST,
    NAMED,
    QUESTIONS,
    VARIANTS,
    Variant,
    chosen,
    config_of,
    samplings_of,
)
from taming.config import instantiate_from_config
from taming.training.codes import ORDER_KINDS, OrderShares
from taming.training.sections import check_sections


def config(variant: Variant) -> dict[str, Any]:
    stage = {"first_stage": Path("first"), "cache": Path("codes")}
    return config_of(variant, data=Path("scenes"), size=64, minutes=1.5, **stage)  # pyright: ignore[reportArgumentType]


def leaves(section: Any, place: str = "") -> dict[str, Any]:
    """{'model.params.n_embed': 1024, ...}"""
    if not isinstance(section, dict):
        return {place: section}
    found = [leaves(value, f"{place}.{key}".lstrip(".")) for key, value in section.items()]
    return {key: value for each in found for key, value in each.items()}


def changed(name: str) -> set[str]:
    """Which values of a variant's config differ from those of its base."""
    base = NAMED[FIRST if NAMED[name].stage == "first" else "base"]
    own, theirs = leaves(config(NAMED[name])), leaves(config(base))
    return {key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key)} - {"name"}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_config_is_one_that_training_takes(variant: Variant) -> None:
    checked = check_sections(config(variant))
    assert checked["name"] == variant.name
    assert checked["training"]["max_minutes"] == 1.5
    assert checked["training"]["decay"] == "constant"  # or a cut training would differ in it too


def test_each_transformer_differs_in_one_decision() -> None:
    prefix = "model.params.transformer_config.params."
    assert changed("no_trunk") == {f"{prefix}trunk_layers", f"{prefix}layers"}
    assert changed("prefix") == {f"{prefix}control_mode"}
    assert changed("base_again") == {"seed", "data.params.seed"}


def test_without_a_trunk_it_is_as_large() -> None:
    sizes = {}
    for name in ("base", "no_trunk"):
        section = config(NAMED[name])["model"]["params"]["transformer_config"]
        model = instantiate_from_config(section)
        sizes[name] = sum(p.numel() for p in model.parameters())
    assert sizes["no_trunk"] == pytest.approx(sizes["base"], rel=0.01)


def test_raster_only_differs_in_its_orders_and_draws_no_other() -> None:
    orders = "data.params.codes.orders."
    names = {f"{orders}{kind}" for kind in ("random", "spread", "raster", "known")}
    assert changed("raster_only") == names
    assert NAMED["raster_only"].kinds == ("random", "spread", "raster")
    assert NAMED["labels_only"].kinds == ("random", "spread", "raster")
    assert NAMED["base"].kinds == ORDER_KINDS
    shares = OrderShares(**config(NAMED["raster_only"])["data"]["params"]["codes"]["orders"])
    assert shares.probabilities(has_known=True).tolist() == [0.0, 0.0, 1.0, 0.0]


def test_codebooks_differ_in_the_quantizer_and_nowhere_else() -> None:
    assert changed("sphere_256") == {"model.params.embed_dim"}
    assert changed("plain_256") == {
        "model.params.embed_dim",
        "model.params.quantizer.params.normalize",
    }
    assert changed("no_restarts") - changed("plain_256") == {"training.restart_every"}
    others = {key for key in changed("published") if not key.startswith("model.params.quantizer")}
    assert others == {"model.params.embed_dim", "training.restart_every"}


@pytest.mark.parametrize("name", ["labels", "depth"])
def test_a_model_of_one_task_has_one_condition_in_nearly_every_example(name: str) -> None:
    found = config(NAMED[f"{name}_only"])
    assert list(found["model"]["params"]["cond_stage_config"]) == [name]
    assert found["data"]["params"]["codes"]["dropping"]["keep"] == {name: 1.0}


def test_the_base_has_all_conditions_but_sentences() -> None:
    found = config(NAMED["base"])["model"]["params"]["cond_stage_config"]
    assert set(found) == set(CONDITIONS)
    assert "text" not in found


def test_second_stages_read_one_cache_of_the_same_pictures() -> None:
    """What decides a record: the sets, the size, the draws, and what conditions compute once."""
    seen = []
    for variant in VARIANTS:
        if variant.stage == "second":
            params = config(variant)["data"]["params"]
            codes = params["codes"]
            seen.append((params["sets"], params["size"], codes["draws"], codes["cache"]))
    assert all(each == seen[0] for each in seen)


def test_every_question_compares_its_first_entry_with_others() -> None:
    for question in QUESTIONS:
        assert question.entries[0].variant in (FIRST, "base")
        assert len({NAMED[name].stage for name in question.variants}) == 1
    assert {name for q in QUESTIONS for name in q.variants} == set(NAMED)


def test_the_base_is_sampled_both_ways() -> None:
    assert set(samplings_of("base")) == {"24 steps", "raster"}
    assert samplings_of("raster_only") == ["raster"]


def test_names_choose_variants_and_questions() -> None:
    assert [v.name for v in chosen(["prefix"])] == ["prefix"]
    assert [v.name for v in chosen(["control", "depth_only"])] == [
        "base", "no_trunk", "prefix", "depth_only", "base_again",
    ]  # fmt: skip
    assert chosen([]) == list(VARIANTS)
    with pytest.raises(ValueError, match="no variant or question 'prefx'; there are control"):
        chosen(["prefx"])


def test_snapshots_stand_a_fixed_ratio_apart() -> None:
    kept = [step for step in range(1, 200) if is_kept(step)]
    assert kept == [16, 23, 32, 45, 64, 91, 128, 181]
