"""Training recipes: what is wrong is said in one sentence, before anything runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from banty.cli.training import load_any_recipe
from banty.credit import ESTIMATORS
from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.records import OptimizerSpec
from banty.runs import from_mapping, load_recipe, to_mapping
from banty.train.recipe import RLRecipe

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "recipes").glob("*.toml"))


def recipe_from(tmp_path: Path, text: str, *overrides: str) -> RLRecipe:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    recipe = load_recipe(RLRecipe, file, overrides)
    recipe.check()
    return recipe


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_recipe_is_sound(file: Path) -> None:
    recipe = load_any_recipe(str(file), [])
    recipe.check()
    assert recipe.env is not None
    splits = make_taskset(recipe.env.name, recipe.env.options).splits if "data" not in recipe.env.options else None
    if splits is not None:
        assert recipe.env.split in splits
        assert recipe.eval.num_tasks <= splits[recipe.eval.split]
        assert recipe.env.split != recipe.eval.split, "what is trained on is not what is reported"


def test_there_is_a_shipped_recipe() -> None:
    assert ROOT / "recipes" / "habits.toml" in SHIPPED


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    assert recipe_from(tmp_path, "") == RLRecipe()


def test_the_resolved_recipe_is_json_and_makes_itself_again(tmp_path: Path) -> None:
    recipe = recipe_from(
        tmp_path,
        '[env]\nname = "airline/full"\n[env.options]\ngrade = "tau2"\n[policy.lapses]\nlookup = 0.5\n',
        "train.steps=7",
        "policy.lapse=0.4",
    )
    resolved = json.loads(json.dumps(to_mapping(recipe), allow_nan=False))
    assert set(resolved["train"]) == {field.name for field in dataclasses.fields(recipe.train)}
    assert (resolved["train"]["steps"], resolved["env"]["options"]) == (7, {"grade": "tau2"})
    assert from_mapping(RLRecipe, resolved, "again") == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nstep = 3", r"mine\.toml: train: unknown key 'step'; did you mean 'steps'\?"),
        ("[trian]\nsteps = 3", r"mine\.toml: unknown key 'trian'; did you mean 'train'\?"),
        (
            "steps = 3",
            r"unknown key 'steps'.* Known are env, policy, train, rewards, calibrate, credit, loss, optimizer",
        ),
        ("[train]\nqqq = 3", r"unknown key 'qqq'\. Known are steps, tasks_per_step"),
        ('[train]\nsteps = "ten"', r"train: steps takes a whole number, got 'ten'"),
        ("[train]\nsteps = 2.5", r"steps takes a whole number, got 2\.5"),
        ("[train]\nsteps = true", r"steps takes a whole number, got True"),
        ("[policy]\nlapse = false", r"lapse takes a number, got False"),
        ("[policy]\nlapse = [0.1]", r"lapse takes a number, got \[0\.1\]"),
        ("[policy]\nlapses = 0.1", r"lapses takes a table, got 0\.1"),
        ('[policy.lapses]\nlookup = "often"', r"lapses\.lookup takes a number, got 'often'"),
        ("[env]\nname = 3", r"name takes text, got 3"),
        ('[policy]\ntype = "transformer"', r"type is 'transformer'; allowed are habits, model"),
        ("train = 3", r"train takes a table, got 3"),
        ("[train\nsteps = 3", r"mine\.toml is not a readable TOML file"),
        ("[train]\nsteps = 3\nsteps = 4", r"mine\.toml is not a readable TOML file"),
        ("[train]\nrollouts_per_task = 1", r"credited against others of one task: take 2 or more"),
        ("[train]\nrollouts_per_task = 0", r"rollouts_per_task is 0; it takes at least 1"),
        ("[train]\nsteps = 0", r"steps is 0; it takes at least 1"),
        ("[train]\nmax_turns = -1", r"max_turns is -1; it takes at least 1"),
        ("[train]\nconcurrency = 0", r"concurrency is 0; it takes at least 1"),
        ("[optimizer]\nlearning_rate = 0", r"learning_rate is 0\.0; it takes a finite number above 0"),
        ("[optimizer]\nlearning_rate = inf", r"learning_rate is inf; it takes a finite number above 0"),
        ("[optimizer]\nlearning_rate = nan", r"learning_rate is nan; it takes a finite number above 0"),
        ("[train]\ntemperature = 0", r"temperature is 0\.0; it takes a finite number above 0"),
        ('[credit]\nestimator = "gae"', r"estimator is 'gae'; known are rloo, grpo"),
        ("[policy]\nlapse = 1", r"policy\.lapse is 1\.0; it takes a number between 0 and 1, ends excluded"),
        ("[policy]\nlapse = nan", r"policy\.lapse is nan; it takes a number between 0 and 1"),
        ("[policy.lapses]\nlookup = 0", r"policy\.lapses\.lookup is 0\.0; it takes a number between 0 and 1"),
        ("[eval]\nnum_tasks = 0", r"num_tasks .*at least 1"),
        ("[eval]\nnum_trials = 0", r"num_trials .*at least 1"),
        ("[eval]\ntemperature = -1", r"eval\.temperature is -1\.0; it takes at least 0"),
        ('[eval.also."a b"]\nx = 1', r"eval\.also\.a b: name it in lower-case letters"),
        ("[eval.also]\nother = 1", r"eval: also\.other takes a table, got 1"),
        ("[optimizer]\nmuon_rate = -1", r"optimizer\.muon_rate is -1\.0; it takes a number of at least 0"),
        ('[optimizer]\nstate = "int4"', r"optimizer: state is 'int4'; allowed are float32, int8"),
        ("[optimizer]\noffload = 1", r"offload takes true or false, got 1"),
        ("[policy]\nlora_rank = 8", r"policy\.lora_rank is 8, and a habit policy .*; leave it out, or train a model"),
        ("[optimizer]\nweight_decay = 0.1", r"optimizer\.weight_decay is 0\.1, and a habit policy"),
        ("[optimizer]\nmuon_rate = 0.01", r"optimizer\.muon_rate is 0\.01, and a habit policy"),
        ('[optimizer]\nstate = "int8"', r"optimizer\.state is 'int8', and a habit policy"),
        ("[optimizer]\noffload = true", r"optimizer\.offload is True, and a habit policy"),
        ("[loss]\nkl = 0.1", r"keeps no reference: turn kl and correction off"),
        ('[policy]\ntype = "model"', r"policy\.start is empty; name the folder of a model"),
        ("[policy]\nlora_rank = -1", r"policy\.lora_rank is -1; it takes 0 to 1024"),
        ("[policy]\nmax_tokens = 0", r"policy\.max_tokens is 0; it takes at least 1"),
        ('[policy]\ndtype = "float16"', r"dtype is 'float16'; allowed are float32, bfloat16"),
        ("[train]\nminibatches = 200", r"minibatches is 200, and a step has 128 episodes"),
        ("[train]\noverlong_penalty = 2", r"overlong_penalty is 2\.0, and train\.overlong_buffer is 0: no episode"),
        ("[train]\nsampling_rounds = 0", r"sampling_rounds is 0; it takes at least 1"),
        ('[loss]\nobjective = "ppo"', r"objective is 'ppo'; allowed are clip, cispo"),
        ("[loss]\nclip_low = -1", r"loss\.clip_low is -1\.0; it takes a finite number of at least 0"),
        ("[loss]\ndual_clip = 0.5", r"loss\.dual_clip is 0\.5; it takes a number above 1"),
        ("[loss]\nconstant_tokens = 0", r"loss\.constant_tokens is 0\.0; it takes a finite number above 0"),
        ("[loss]\ncorrection_low = 3", r"correction_high is 2\.0; it takes a finite number above correction_low"),
        ('[loss]\ncorrection = "mask"', r"compares the trainer with the sampler; set train\.old_logprobs='trainer'"),
        ("[optimizer]\nbeta2 = 1", r"optimizer\.beta2 is 1\.0; it takes a number from 0 to below 1"),
        ("[optimizer]\nwarmup_steps = -1", r"optimizer\.warmup_steps is -1; it takes a number of at least 0"),
        ("[learner]\nmicro_batch_tokens = 0", r"learner\.micro_batch_tokens is 0; it takes at least 1"),
        (
            '[policy]\ntype = "model"\nstart = "x"\n[train]\nmax_tokens = 9000\n[learner]\nmicro_batch_tokens = 8000',
            r"an episode sample 9000 tokens, and learner\.micro_batch_tokens holds 8000",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        recipe_from(tmp_path, text)
    assert "\n" not in str(caught.value), "one clear sentence"


def test_what_habits_have_no_use_for_can_be_written_as_it_is_anyway_and_used_for_a_model(tmp_path: Path) -> None:
    options = "[optimizer]\nweight_decay = {}\nmuon_rate = {}\nstate = '{}'\noffload = {}\n[policy]\nlora_rank = {}\n"
    recipe_from(tmp_path, options.format(0.0, 0, "float32", "false", 0))
    chosen = options.format(0.1, 1e-3, "int8", "true", 4)
    recipe = recipe_from(tmp_path, chosen, "policy.type=model", "policy.start=nano")
    assert (recipe.optimizer.state, recipe.optimizer.offload) == ("int8", True)


def test_an_optimizer_state_that_nobody_knows_is_refused_in_code_too() -> None:
    with pytest.raises(InputError, match=r"optimizer\.state is 'int4'; it takes float32 or int8"):
        OptimizerSpec(state="int4").check()  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_can_be_asked_for(tmp_path: Path, estimator: str) -> None:
    loss = "[loss]\naggregation = 'constant'"
    assert recipe_from(tmp_path, loss, f"credit.estimator={estimator}").credit.estimator == estimator


def test_a_missing_recipe_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "habits.toml").write_text("")
    (tmp_path / "sql.toml").write_text("")
    with pytest.raises(InputError, match=r"no recipe .*habit\.toml; there are .*habits\.toml, .*sql\.toml"):
        load_recipe(RLRecipe, tmp_path / "habit.toml")
    with pytest.raises(InputError, match=r"no recipe .*nowhere/habit\.toml$"):
        load_recipe(RLRecipe, tmp_path / "nowhere" / "habit.toml")


def test_a_folder_or_a_binary_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\x00\xfe")
    for path in (tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(InputError, match="not a readable TOML file"):
            load_recipe(RLRecipe, path)
