"""What a recipe may not combine with `unbiased`, and that every estimator can be named in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from banty.credit import ESTIMATORS
from banty.errors import InputError
from banty.runs import load_recipe
from banty.train.recipe import RLRecipe

UNBIASED = '[credit]\nestimator = "unbiased"\n'
CONSTANT = '[loss]\naggregation = "constant"\n'


def check(tmp_path: Path, text: str) -> RLRecipe:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    recipe = load_recipe(RLRecipe, file, [])
    recipe.check()
    return recipe


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_can_be_named(tmp_path: Path, estimator: str) -> None:
    recipe = check(tmp_path, f'[credit]\nestimator = "{estimator}"\n{CONSTANT}')
    assert recipe.credit.estimator == estimator


@pytest.mark.parametrize("more", ["", 'ended = "left_out"\n', 'scale = "others"\n', 'scale = "others"\nrms = 0.5\n'])
def test_unbiased_with_a_constant_and_one_update_is_sound(tmp_path: Path, more: str) -> None:
    assert check(tmp_path, UNBIASED + more + CONSTANT).credit.is_unbiased


@pytest.mark.parametrize("aggregation", ["token", "sequence", "turn"])
def test_unbiased_refuses_a_denominator_the_policy_decides(tmp_path: Path, aggregation: str) -> None:
    with pytest.raises(InputError, match=rf"loss\.aggregation='{aggregation}' .*; take 'constant'"):
        check(tmp_path, f'{UNBIASED}[loss]\naggregation = "{aggregation}"\n')


def test_unbiased_refuses_the_default_aggregation_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"credit\.estimator='unbiased' would not be: loss\.aggregation='token'"):
        check(tmp_path, UNBIASED)


@pytest.mark.parametrize(("train", "updates"), [("epochs = 2", 2), ("minibatches = 3", 3)])
def test_unbiased_refuses_several_updates_a_batch(tmp_path: Path, train: str, updates: int) -> None:
    with pytest.raises(InputError, match=rf"{updates} updates a batch \(train\.epochs x train\.minibatches\).*take 1"):
        check(tmp_path, f"[train]\n{train}\n{UNBIASED}{CONSTANT}")


def test_unbiased_refuses_a_scale_made_of_its_own_batch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"credit\.scale='batch' .*; take 'none' or 'others'"):
        check(tmp_path, f'{UNBIASED}scale = "batch"\n{CONSTANT}')


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ('truncated = "mask"', r"train\.truncated='mask' leaves episodes out .*; take 'keep'"),
        ("sampling_rounds = 3\ntasks_per_step = 2", r"train\.sampling_rounds=3 replaces groups .*; take 1"),
    ],
)
def test_unbiased_refuses_to_leave_out_what_the_policy_brought_about(tmp_path: Path, train: str, said: str) -> None:
    """Whether an episode, or a group, counts must not depend on what was sampled in it."""
    with pytest.raises(InputError, match=said):
        check(tmp_path, f"[train]\n{train}\n{UNBIASED}{CONSTANT}")


def test_a_scale_of_the_other_groups_needs_another_group(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"credit\.scale='others' .* train\.tasks_per_step is 1"):
        check(tmp_path, '[train]\ntasks_per_step = 1\n[credit]\nscale = "others"\n')
    assert check(tmp_path, '[train]\ntasks_per_step = 2\n[credit]\nscale = "others"\n').credit.scale == "others"


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path, f'[train]\nepochs = 2\n{UNBIASED}scale = "batch"\n')
    assert all(name in str(caught.value) for name in ("credit.scale", "loss.aggregation", "train.epochs"))


def test_an_option_that_is_not_heeded_is_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"credit\.gamma is 0\.9, and unbiased does not heed it"):
        check(tmp_path, f"{UNBIASED}gamma = 0.9\n{CONSTANT}")
