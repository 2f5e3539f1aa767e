"""The loops with a language model: it learns, from facts that are exactly what was sampled, and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.rollouts_by_hand import sample as sample_of
from tests.toy import TEMPLATE, write_toy
from tests.train import toy_run

from banty.credit import CreditSpec, estimator_of
from banty.errors import InputError
from banty.learn.learner import TorchLearner
from banty.records import OptimizerSpec, PolicyLoss, Rollout, TrainingSample
from banty.rollout import Store, group_rollouts
from banty.runs import RunFolder, read_metrics
from banty.train.recipe import SFTBlock, TrainBlock
from banty.train.rl import credit_groups, minibatches, teaches
from banty.train.samples import overlong_penalty
from banty.train.sft import train_sft


def weights_of(policy: Any) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in policy.engine.model.trainable().items()}


def test_a_model_learns_to_look_things_up(tmp_path: Path) -> None:
    """From about two in five, imitating conversations that guess that often, to four in five in 40 steps of 8 x 8, on
    200 held-out tasks, sampled; one core, under a minute."""
    policy = toy_run.policy_of(toy_run.warm())
    before = toy_run.success(policy)
    toy_run.train(tmp_path / "run", 40, policy)
    after = toy_run.success(policy)
    assert 0.25 <= before <= 0.55
    assert after >= 0.8
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    first, last = rows[0], rows[-1]
    assert last["train/entropy"] < first["train/entropy"]
    assert first["mismatch/abs"] < 1e-4
    assert all(row["rollout/errored"] == 0 for row in rows)
    assert all(row["tokens/sampled"] > 0 for row in rows)
    for phase in ("sample", "score", "train", "publish", "store", "step"):
        assert first[f"time/{phase}_s"] >= 0.0
    assert first["group/zero_variance"] <= first["group/num_groups"]


def test_stored_tokens_are_what_was_sampled_and_scored(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    toy_run.train(tmp_path / "run", 1, policy, tasks_per_step=4, rollouts_per_task=4)
    rollouts = list(Store(tmp_path / "run" / "rollouts").read())
    fresh = TorchLearner(toy_run.policy_of(toy_run.warm()).engine.model, OptimizerSpec())
    samples = credit_groups(group_rollouts(rollouts), estimator_of(CreditSpec()))
    assert len(samples) == 16
    for sample, logprobs in zip(samples, fresh.logprobs(samples), strict=True):
        assert np.abs(logprobs - sample.sampler_logprobs).max() < 1e-4
    for rollout in rollouts:
        _assert_whole(rollout, policy)


def _assert_whole(rollout: Rollout, policy: Any) -> None:
    """Segments joined are the conversation as the template writes it (the warm model's turns are canonical)."""
    ids: list[int] = []
    for turn in rollout.agent_turns:
        assert turn.segment is not None
        assert turn.segment.continues == (turn.index > 0)
        ids += [*turn.segment.prompt_ids, *turn.segment.sampled_ids]
        end = policy.renderer.end_of_turn_id
        assert (turn.segment.sampled_ids[-1] == end) == (turn.finish == "stop")
    last = rollout.agent_turns[-1]
    if all(turn.finish == "stop" and not turn.message.faults for turn in rollout.agent_turns):
        messages = [*rollout.opening]
        for turn in rollout.agent_turns:
            messages += [turn.message, *(turn.observation if turn is not last else ())]
        text = policy.renderer.text(messages, rollout.tools, add_generation_prompt=False)
        assert text.startswith(policy.renderer.decode(ids))


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({"minibatches": 4, "epochs": 2, "old_logprobs": "trainer"}, PolicyLoss(dual_clip=3.0)),
        (
            {"minibatches": 4, "old_logprobs": "trainer"},
            PolicyLoss(ratio_level="sequence", aggregation="sequence", clip_low=3e-4, clip_high=4e-4),
        ),
        (
            {"minibatches": 2, "old_logprobs": "trainer"},
            PolicyLoss(objective="cispo", clip_low=1.0, correction="truncate"),
        ),
        ({}, PolicyLoss(aggregation="constant", constant_tokens=20.0, kl=0.01)),
    ],
    ids=["ppo", "gspo", "cispo", "kl"],
)
def test_several_updates_a_batch_and_every_loss_train(
    tmp_path: Path, settings: dict[str, Any], loss: PolicyLoss
) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    learner = TorchLearner(policy.engine.model, OptimizerSpec(learning_rate=1e-3), keep_reference=True)
    toy_run.train(tmp_path / "run", 2, policy, learner, loss=loss, tasks_per_step=4, **settings)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    updates = settings.get("minibatches", 1) * settings.get("epochs", 1)
    assert [row["train/updates"] for row in rows] == [updates, updates]
    assert learner.version == 2 * updates
    assert rows[1]["train/kl_old"] > 0 if updates > 1 else rows[1]["train/kl_ref"] > 0
    if settings.get("epochs", 1) > 1 or loss.ratio_level == "sequence":
        assert rows[1]["train/clipped"] > 0


def test_dynamic_sampling_replaces_groups_that_teach_nothing_until_its_rounds_are_spent(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    # Two of a group often come out alike.
    toy_run.train(tmp_path / "run", 2, policy, sampling_rounds=3, tasks_per_step=6, rollouts_per_task=2)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for row in rows:
        kept = row["group/num_groups"] - row["group/set_aside"]
        assert row["group/set_aside"] == row["group/zero_variance"]
        assert kept == 6 or row["group/sampling_rounds"] == 3
        assert row["train/samples"] == 2 * kept
    assert any(row["group/set_aside"] for row in rows)
    rollouts = list(Store(tmp_path / "run" / "rollouts").read())
    indices = [rollout.task.index for rollout in rollouts if rollout.trial == 0]
    assert sorted(indices) == list(range(len(indices))), "the second step goes on where the first one's rounds ended"
    assert any("|" in rollout.rollout_id and ".1|" in rollout.rollout_id for rollout in rollouts)


def test_a_step_in_which_nothing_teaches_changes_nothing(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    before = weights_of(policy)
    toy_run.train(tmp_path / "run", 1, policy, max_turns=1, sampling_rounds=2, tasks_per_step=2)  # nobody finishes
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert row["train/updates"] == 0
    assert row["rollout/truncated"] == row["rollout/episodes"] == 32
    assert row["status/truncated_turns"] == 32
    assert weights_of(policy) == before


def test_groups_teach_by_their_advantages(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    toy_run.train(tmp_path / "run", 1, policy, tasks_per_step=4, rollouts_per_task=2)
    block = TrainBlock()
    for group in group_rollouts(Store(tmp_path / "run" / "rollouts").read()):
        mixed = len({rollout.outcome.success for rollout in group.scored}) == 2
        assert teaches(group, estimator_of(CreditSpec()), block) == mixed


def test_episodes_that_ran_into_a_cap_can_be_left_out_or_taxed(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    toy_run.train(tmp_path / "run", 1, policy, tasks_per_step=4, max_tokens=12)
    groups = group_rollouts(Store(tmp_path / "run" / "rollouts").read())
    truncated = {one.rollout_id for group in groups for one in group.rollouts if one.status == "truncated"}
    assert truncated
    rloo = estimator_of(CreditSpec())
    kept = credit_groups(groups, rloo, TrainBlock())
    masked = credit_groups(groups, rloo, TrainBlock(truncated="mask"))
    assert {sample.rollout_id for sample in kept} - {sample.rollout_id for sample in masked} == truncated
    taxed = credit_groups(groups, rloo, TrainBlock(max_tokens=12, overlong_buffer=6))

    def mean(samples: list[TrainingSample]) -> float:
        return float(np.mean([one.advantages[one.mask][0] for one in samples if one.rollout_id in truncated]))

    assert mean(taxed) < mean(kept)


def test_f8_the_soft_penalty_of_dapo() -> None:
    for tokens, wanted in ((16000, 0.0), (16384, 0.0), (18432, -0.5), (20480, -1.0), (30000, -1.0)):
        assert overlong_penalty(tokens, 20480, 4096, 1.0) == wanted
    assert overlong_penalty(99, 10, 0, 1.0) == 0.0


def test_minibatches_keep_rollouts_whole_and_lose_nobody() -> None:
    samples = [dataclasses.replace(sample_of([0, 1], [0, 1]), rollout_id=name) for name in "aabcdddefg"]
    parts = minibatches(samples, 3, seed=4)
    assert len(parts) == 3
    names = [{sample.rollout_id for sample in part} for part in parts]
    assert not any(one & other for place, one in enumerate(names) for other in names[:place])
    assert sorted(sample.rollout_id for part in parts for sample in part) == sorted("aabcdddefg")
    assert [[s.rollout_id for s in part] for part in minibatches(samples, 3, seed=4)] == [
        [s.rollout_id for s in part] for part in parts
    ]
    assert names != [{sample.rollout_id for sample in part} for part in minibatches(samples, 3, seed=5)]
    assert [[s.rollout_id for s in part] for part in minibatches(samples, 1, seed=0)] == [list("aabcdddefg")]
    assert minibatches([], 3, seed=0) == []


def test_fine_tuning_resumed_is_fine_tuning_uninterrupted(tmp_path: Path) -> None:
    source = write_toy(tmp_path / "random", seed=3)
    block = SFTBlock(epochs=2, batch_size=16, checkpoint_every=2)
    samples = toy_run.traces(toy_run.policy_of(source), 80)

    def tuned(name: str, stop_after: int | None) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        policy = toy_run.policy_of(source)
        learner = TorchLearner(policy.engine.model, OptimizerSpec(learning_rate=3e-3, decay_steps=10))
        folder = tmp_path / name
        run = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder, {})

        def on_step(report: Any) -> None:
            assert report.num_steps == 10
            if report.step == stop_after:
                raise KeyboardInterrupt

        train_sft(block, samples, learner, run, on_step)
        return weights_of(policy), [dict(row) for row in read_metrics(folder / "metrics.jsonl")]

    whole, rows = tuned("whole", None)
    assert rows[-1]["train/loss"] < 0.75 * rows[0]["train/loss"]
    for stop in (0, 4):
        with pytest.raises(KeyboardInterrupt):
            tuned("broken", stop)
    resumed, again = tuned("broken", None)
    assert resumed == whole
    assert [row["train/loss"] for row in again] == [row["train/loss"] for row in rows]
    learner = TorchLearner(toy_run.policy_of(source).engine.model, OptimizerSpec())
    with pytest.raises(InputError, match="not those"):
        train_sft(block, samples[1:], learner, RunFolder.open(tmp_path / "broken"))


def test_a_conversation_is_taught_by_its_mask() -> None:
    policy = toy_run.policy_of(toy_run.warm())
    for sample in toy_run.traces(policy, 20):
        taught = policy.renderer.decode(sample.token_ids[sample.mask].tolist())
        assert taught.count("<|im_end|>") == sample.num_turns == len(set(sample.turn_ids[sample.mask].tolist()))
        assert "code for" not in taught
        assert "<|im_start|>" not in taught
        assert math.isclose(sample.rollout_share, 1.0)


def test_the_version_of_a_run_that_is_newer_is_refused(tmp_path: Path) -> None:
    policy = toy_run.policy_of(toy_run.warm())
    toy_run.train(tmp_path / "run", 1, policy, tasks_per_step=2)
    place = next((tmp_path / "run" / "checkpoints").glob("step-*")) / "loop.json"
    place.write_text(place.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    with pytest.raises(InputError, match="schema 7, and this Banty reads 1"):
        toy_run.train(tmp_path / "run", 2, policy, tasks_per_step=2)
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(InputError, match="run folder of schema 9"):
        RunFolder.open(tmp_path / "run")


def test_a_template_that_rewrites_history_trains_on_what_was_seen_and_counts_a_rollout_once(tmp_path: Path) -> None:
    """Earlier tool results are left out once a user speaks again: two samples a rollout, shares that sum to 1, and
    logprobs that are still the trainer's."""
    policy = toy_run.policy_of(toy_run.warm())
    spoken = "'<|im_start|>' + message.role + '\\n' + message.content"
    pruned = "'<|im_start|>tool\\n' + ('' if loop.index0 < ns.last else message.content)"
    template = TEMPLATE.replace(spoken, f"({pruned}) if message.role == 'tool' else ({spoken})")
    policy.engine.model.tokenizer.chat_template = (
        "{%- set ns = namespace(last=0) %}{%- for message in messages %}{%- if message.role == 'user' %}"
        "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}" + template
    )
    rewriting = type(policy).of(policy.engine.model, max_tokens=16)
    assert rewriting.renderer.template_class == "rewrites_on_user"
    toy_run.train(tmp_path / "run", 1, rewriting, tasks_per_step=4, rollouts_per_task=4)
    fresh = TorchLearner(toy_run.policy_of(toy_run.warm()).engine.model, OptimizerSpec())
    samples = credit_groups(group_rollouts(Store(tmp_path / "run" / "rollouts").read()), estimator_of(CreditSpec()))
    by_rollout: dict[str, list[TrainingSample]] = {}
    for sample, logprobs in zip(samples, fresh.logprobs(samples), strict=True):
        assert np.abs(logprobs - sample.sampler_logprobs).max() < 1e-4
        by_rollout.setdefault(sample.rollout_id, []).append(sample)
    assert len(by_rollout) == 16
    assert max(map(len, by_rollout.values())) == 2
    for each in by_rollout.values():
        assert sum(sample.rollout_share for sample in each) == pytest.approx(1.0)
        assert len({sample.num_turns for sample in each}) == 1
        turns = {int(turn) for sample in each for turn in sample.turn_ids[sample.mask]}
        assert len(turns) == each[0].num_turns
