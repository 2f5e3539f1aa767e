"""The benchmarks of sampling and of the whole RL step do the work they say, on sizes of a few seconds."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest
import torch
from benchmarks import rl_step, sampling, trl_steps
from benchmarks.fixed_work import Endless, ForcedDesk, Timed, Work, nano
from benchmarks.tables import counts, machine, table
from benchmarks.trl_steps import TrlSteps, check, missing

TINY = Work(num_groups=2, group_size=2, num_turns=2)

needs_trl = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_generate_samples_exactly_what_ours_does_after_the_same_prompts() -> None:
    tokenizer = nano("float32").tokenizer
    rollouts = sampling.ours(TINY, "float32")(3)
    ids = sampling.generate(TINY, "float32")(3)
    assert ids.shape == (4, 300 + 40 + 40 + 40)
    prompts = sampling.prompts(ForcedDesk(TINY, Endless(tokenizer)), tokenizer, 3)
    assert ids[:, :300].tolist() == prompts
    assert [list(rollout.turns[0].segment.prompt_ids) for rollout in rollouts] == prompts
    assert all(tokenizer.decode(row).isdigit() for row in ids[:, 340:380])
    assert not torch.isin(ids[:, 300:340], tokenizer.eos_token_id).any()
    assert ids[0, 300:340].tolist() != ids[1, 300:340].tolist()


def test_each_repetition_loads_weights_anew_and_is_repeatable() -> None:
    run = sampling.ours(TINY, "float32")
    first, again = run(0), run(0)
    assert [one.turns[-1].version for one in (first[0], again[0])] == [1, 1]
    assert [one.turns[0].segment.sampled_ids for one in first] == [one.turns[0].segment.sampled_ids for one in again]


def test_ratios_are_against_the_best_rival() -> None:
    seconds = {"ours bfloat16": [1.0, 2.0, 9.0], "generate bfloat16": [8.0], "generate float32": [9.0]}
    timed = {name: Timed(name, str, times) for name, times in seconds.items()}
    ours, rival, other = [line.split() for line in sampling.report(TINY, 2, timed).splitlines()[1:]]
    assert ours == ["ours", "bfloat16", "2", "2.00", "1.00", "-", "9.00", "3", "160", "4.00"]
    assert (rival[-1], other[-1]) == ("1.00", "0.89")


def test_a_step_of_ours_trains_on_every_sampled_token_and_publishes() -> None:
    ours = rl_step.OurSteps(TINY)
    before = {name: value.detach().clone() for name, value in ours._learner._masters.items()}
    generate_s, train_s = ours.step()
    assert generate_s > 0.0
    assert train_s > 0.0
    assert ours._policy.engine.version == 1
    assert any(not torch.equal(value, before[name]) for name, value in ours._learner._masters.items())


def test_steps_alternate_strictly_and_the_first_of_each_is_not_counted() -> None:
    made: list[str] = []

    def step(name: str) -> rl_step.Step:
        def one() -> tuple[float, float]:
            made.append(name)
            return float(len(made)), 0.5

        return one

    splits = rl_step.alternate({name: step(name) for name in "ab"}, 2)
    assert "".join(made) == "ababab"
    assert splits["a"].generate == [3.0, 5.0]
    assert splits["b"].whole == [4.5, 6.5]


def test_whole_steps_are_reported_with_their_parts() -> None:
    splits = {
        rl_step.OURS: rl_step.Split([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]),
        "TRL bfloat16": rl_step.Split([6.0, 6.0, 6.0], [6.0, 7.0, 5.0]),
    }
    ours, rival = rl_step.report(1, splits).splitlines()[1:]
    assert " ".join(ours.split()) == "ours bfloat16 1 2.00 1.00 - 3.00 1.00 1.00 - 1.00 3.00 2.00 - 4.00 3 4.00"
    assert rival.split()[-1] == "1.00"


def masks(sampled: int = 80, prompt: int = 300) -> dict[str, torch.Tensor]:
    completion, tool = torch.ones(4, 120, dtype=torch.int64), torch.zeros(4, 120, dtype=torch.int64)
    tool[:, :sampled] = 1
    return {"prompt_mask": torch.ones(4, prompt), "completion_mask": completion, "tool_mask": tool}


def test_trls_masks_are_held_against_the_work() -> None:
    assert check(TINY, masks()) == {"episodes": 4, "prompt": 300, "sampled": 80, "observed": 40}
    uneven = masks()
    uneven["completion_mask"][2, 100:] = 0
    for wrong in (masks(sampled=79), masks(prompt=301), uneven):
        with pytest.raises(AssertionError, match="the work is"):
            check(TINY, wrong)


@needs_trl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_trl_does_the_same_work_a_step_at_a_time(micro_batches: int) -> None:
    steps = TrlSteps(TINY, "float32", 1, 2, micro_batches=micro_batches)
    try:
        model = steps._trainer.model
        before = model.model.embed_tokens.weight.detach().clone()
        assert not steps.checked
        generate_s, train_s = steps.step()
        assert steps.checked == {"episodes": 4, "prompt": 300, "sampled": 80, "observed": 40}
        assert generate_s > 0.0
        assert train_s > 0.0
        assert steps._trainer.state.global_step == 1
        steps.step()
        assert steps._trainer.state.global_step == 2
        assert not torch.equal(model.model.embed_tokens.weight, before)
    finally:
        steps.close()
    assert not steps._thread.is_alive()


@needs_trl
@pytest.mark.filterwarnings("ignore")
def test_what_fails_in_trls_thread_is_raised_where_the_step_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = TrlSteps(TINY, "float32", 1, 1)
    monkeypatch.setattr(trl_steps, "check", lambda work, batch: check(Work(), batch))
    try:
        with pytest.raises(AssertionError, match="the work is"):
            steps.step()
    finally:
        steps.close()


def test_without_trl_the_script_says_how_to_get_it_and_times_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(rl_step, "Work", lambda: TINY)
    monkeypatch.setattr("sys.argv", ["rl_step.py", "--threads", "1", "--repetitions", "1"])
    rl_step.main()
    said = capsys.readouterr().out
    assert "TRL is not installed; pip install 'banty[bench]'" in said
    assert "timing ours alone" in said
    assert [line for line in said.splitlines() if line.startswith("ours bfloat16")]


def test_another_trl_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.13.0")
    assert (
        missing() == "TRL 1.13.0 is installed, and this is written for 1.16.0; pip install 'banty[bench]' (trl==1.16.0)"
    )


@pytest.mark.parametrize(
    ("module", "option", "value"),
    [(sampling, "--ways", "ours float16"), (rl_step, "--trl", "bfloat16/0"), (rl_step, "--trl", "int8")],
)
def test_unknown_ways_are_refused(
    module: object, option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["script", option, value])
    with pytest.raises(SystemExit):
        module.main()  # type: ignore[attr-defined]
    assert repr(value) in capsys.readouterr().err


def test_tables_line_up_and_the_machine_is_named() -> None:
    assert table(["way", "s"], [["a", "10.25"], ["longer", "1"]]).splitlines() == [
        "way         s",
        "a       10.25",
        "longer      1",
    ]
    assert counts("1,2") == [1, 2]
    assert torch.__version__ in machine()
