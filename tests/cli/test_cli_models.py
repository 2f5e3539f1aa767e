"""Language models through the commands: fine-tuned, trained by RL, evaluated from every kind of folder."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tests.toy import write_toy

from banty import cli
from banty.cli import local, training
from banty.cli.progress import Meter
from banty.learn import memory
from banty.models import threads
from banty.models.loading import load_model
from banty.models.native.compiled import KERNELS, SWITCH, compiled
from banty.models.native.decoder import decoder_of
from banty.rollout import stored_rollouts
from banty.runs import read_metrics

TOY = f"{Path(__file__).parents[1] / 'toy.py'}:ColourTasks"
ENV = ("--env", TOY, "--allow-code")
SMALL = ("--tasks", "2", "--trials", "1", "--max-turns", "3", "--max-tokens", "8")
EVAL = (*ENV, *SMALL, "--threads", "1")
BOTH = f"""
[env]
name = "{TOY}"

[eval]
num_tasks = 2
num_trials = 1
max_turns = 3
"""
SFT = f"""
kind = "sft"

[data]
rollouts = ["expert"]

[policy]
type = "model"
start = "toy"
threads = 1
max_tokens = 8

[train]
epochs = 2
batch_size = 4

[optimizer]
learning_rate = 0.01
{BOTH}"""
RL = f"""
[policy]
type = "model"
start = "sft/weights"
threads = 1
max_tokens = 8
lora_rank = 2

[train]
steps = 3
tasks_per_step = 2
rollouts_per_task = 2
max_turns = 3

[loss]
kl = 0.1

[optimizer]
learning_rate = 0.01
{BOTH}"""


class Said(NamedTuple):
    status: int
    out: str
    err: str


def banty(*words: str, width: int = 200) -> Said:
    """The command in this process; what it leaves for a shell to see."""
    out, err = io.StringIO(), io.StringIO()
    before, columns, status = sys.argv, os.environ.get("COLUMNS"), 0
    sys.argv = ["banty", *words]
    os.environ["COLUMNS"] = str(width)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    finally:
        sys.argv = before
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
        torch.set_num_threads(1)
    return Said(status, out.getvalue(), err.getvalue())


def did(*words: str) -> str:
    """What a command that succeeds prints."""
    said = banty(*words)
    assert said.status == 0, said.err
    return said.out


@functools.cache
def workshop() -> Path:
    """A toy model, an expert's conversations, the fine-tuning on them and the RL after it; not to be written into."""
    folder = Path(tempfile.mkdtemp(prefix="banty-workshop-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_toy(folder / "toy")
    (folder / "sft.toml").write_text(SFT)
    (folder / "rl.toml").write_text(RL)
    with contextlib.chdir(folder):
        did("eval", "expert", *ENV, "--split", "train", "--tasks", "8", "--trials", "1", "--out", "expert")
        did("train", "sft.toml", "--allow-code", "--out", "sft")
        did("train", "rl.toml", "--allow-code", "--out", "rl")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; the workshop's are reached by their whole paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def sha256(file: Path) -> str:
    return hashlib.sha256(hashlib.sha256(file.read_bytes()).digest()).hexdigest()


# Training.


def test_fine_tuning_ends_with_a_folder_that_explains_itself() -> None:
    run = workshop() / "sft"
    recipe = read(run / "recipe.json")
    assert recipe["kind"] == "sft"
    assert recipe["policy"]["start"] == str((workshop() / "toy").resolve()), "found from any folder"
    assert recipe["data"]["rollouts"] == [str((workshop() / "expert").resolve())]
    engine = read(run / "engine.json")
    assert len(engine.pop("start_sha256")) == 64
    assert set(engine.pop("kernels").split(", ")) <= {*KERNELS, "torch"}
    assert engine.pop("machine")["bytes_s"] > 0
    assert engine == {
        "threads": 1,
        "measured": False,
        "torch": torch.__version__,
        "dtype": "float32",
        "device": "cpu",
    }
    rows = read_metrics(run / "metrics.jsonl")
    assert len(rows) == 4, "8 conversations, 4 an update, twice"
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert read(run / "data.json")["num_samples"] == 8
    before, after = (read(run / f"eval-{when}" / "card.json") for when in ("before", "after"))
    result = read(run / "result.json")
    assert (result["before"], result["after"]) == (before["success"], after["success"])
    assert before["identity"]["policy_details"]["weights_sha256"] == sha256(workshop() / "toy" / "model.safetensors")
    assert after["identity"]["policy_details"]["weights_sha256"] == sha256(run / "weights" / "model.safetensors")
    tuned, base = load_model(run / "weights"), load_model(workshop() / "toy")
    assert not torch.equal(tuned.head, base.head)
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_rl_goes_on_from_it_with_an_adapter() -> None:
    run = workshop() / "rl"
    assert read(run / "recipe.json")["kind"] == "rl"
    stored = read(run / "weights" / "adapter_config.json")
    assert stored["base_model_name_or_path"] == str((workshop() / "sft" / "weights").resolve())
    written = [*(run / "weights").rglob("*.safetensors"), *(run / "checkpoints").rglob("*.safetensors")]
    assert {file.name for file in written} == {
        "adapter_model.safetensors",
        "masters.safetensors",
        "moments.safetensors",
    }
    assert all("lora_" in name for file in written for name in load_file(file)), "the adapter alone"
    rows = read_metrics(run / "metrics.jsonl")
    assert len(rows) == 3
    assert {row["rollout/episodes"] for row in rows} == {4}
    rollouts = stored_rollouts(run)
    assert sorted({rollout.rollout_id.split("|")[0] for rollout in rollouts}) == [
        f"step-{step:04d}" for step in (0, 1, 2)
    ]
    assert all(turn.segment and turn.sampled_tokens <= 8 for rollout in rollouts for turn in rollout.agent_turns)
    assert load_model(run / "weights").peft is not None


def test_training_prints_what_changed_and_where_it_is_or_json_alone(here: Path) -> None:
    changes = ("train.steps=1", "train.batch_size=8", f"policy.start={workshop() / 'toy'}")
    data = f"data.rollouts=['{workshop() / 'expert'}']"
    words = ("train", str(workshop() / "sft.toml"), *changes, data, "--allow-code")
    printed = did(*words, "--out", "one").splitlines()
    assert printed[-1] == "run: one"
    assert any("success (pass^1)" in line for line in printed)
    result = json.loads(did(*words, "--out", "two", "--json"))
    assert result["folder"] == "two"
    assert sha256(here / "one" / "weights" / "model.safetensors") == sha256(
        here / "two" / "weights" / "model.safetensors"
    )


def test_a_dry_run_opens_the_model_and_writes_nothing(here: Path) -> None:
    words = ("train", str(workshop() / "rl.toml"), "--allow-code", "--dry-run")
    resolved = json.loads(did(*words, f"policy.start={workshop() / 'toy'}"))
    assert resolved["policy"]["start"] == str((workshop() / "toy").resolve())
    assert banty(*words, "policy.start=nowhere").status == 2
    measured = json.loads(did("eval", str(workshop() / "rl"), *EVAL, "--dry-run"))
    assert measured["num_episodes"] == 2
    assert list(here.iterdir()) == []


def test_an_interrupted_run_goes_on_to_the_same_adapter(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(Meter):
        def advance(self, *words: Any) -> None:
            super().advance(*words)
            if self.total == 3:  # training, and neither evaluation
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "Meter", Impatient)
    monkeypatch.setattr(threads, "measured_threads", lambda model: 1)
    changes = (f"policy.start={workshop() / 'sft' / 'weights'}", "policy.threads=0")
    stopped = banty("train", str(workshop() / "rl.toml"), *changes, "--allow-code", "--out", "cut")
    assert stopped.status == 130, stopped.err
    assert "banty train --resume cut" in stopped.err
    assert len(read_metrics(here / "cut" / "metrics.jsonl")) == 1
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(threads, "measured_threads", _never)
    did("train", "--resume", "cut", "--allow-code")
    for name in ("weights/adapter_model.safetensors", "eval-after/card.json"):
        ours, theirs = here / "cut" / name, workshop() / "rl" / name
        if name.endswith(".json"):
            assert read(ours)["tasks"] == read(theirs)["tasks"]
        else:
            assert ours.read_bytes() == theirs.read_bytes()


# Evaluation.


def test_a_model_an_adapter_and_a_run_can_be_evaluated(here: Path) -> None:
    cards: dict[str, Mapping[str, Any]] = {}
    for name in ("toy", "sft", "sft/weights", "rl", "rl/weights"):
        out = name.replace("/", "-")
        card = json.loads(did("eval", str(workshop() / name), *EVAL, "--out", out, "--json", "--no-baselines"))
        assert card == read(here / out / "card.json")
        cards[name] = card
        assert read(here / out / "engine.json")["threads"] == 1
    identities = {name: card["identity"] for name, card in cards.items()}
    assert {name: identity["policy"] for name, identity in identities.items()} == {
        "toy": "toy",
        "sft": "sft",
        "sft/weights": "sft",
        "rl": "rl",
        "rl/weights": "rl",
    }
    details = {name: identity["policy_details"] for name, identity in identities.items()}
    assert details["rl"]["weights_sha256"] == sha256(workshop() / "rl" / "weights" / "adapter_model.safetensors")
    assert len({each["weights_sha256"] for each in details.values()}) == 3
    assert {(each["dtype"], each["device"], each["template_class"]) for each in details.values()} == {
        ("float32", "cpu", "append_only")
    }
    for run in ("sft", "rl"):
        assert cards[run]["tasks"] == cards[f"{run}/weights"]["tasks"]
        assert details[run] == details[f"{run}/weights"]


def test_what_it_computes_in_is_part_of_what_was_measured(here: Path) -> None:
    did("eval", str(workshop() / "toy"), *EVAL, "--out", "half", "--dtype", "bfloat16")
    assert read(here / "half" / "card.json")["identity"]["policy_details"]["dtype"] == "bfloat16"
    assert read(here / "half" / "engine.json")["dtype"] == "bfloat16"
    other = banty("eval", str(workshop() / "toy"), *EVAL, "--out", "half", "--resume")
    assert other.status == 2
    assert "holds another evaluation: policy_details is" in other.err


def _never(*words: Any) -> int:
    raise AssertionError("threads are measured once")


@pytest.fixture
def set_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that torch is told to use; it uses one."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    return asked


def test_threads_are_measured_once_noted_and_used_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, set_threads: list[int]
) -> None:
    monkeypatch.setattr(threads, "measured_threads", lambda model: 3)
    words = ("eval", str(workshop() / "toy"), *ENV, *SMALL, "--out", "e")
    did(*words)
    assert set_threads[0] == 3
    note = read(here / "e" / "engine.json")
    assert (note["threads"], note["measured"]) == (3, True)
    before = read(here / "e" / "card.json")["tasks"]

    monkeypatch.setattr(threads, "measured_threads", _never)
    for extra in ((), ("--threads", "2")):  # a resumed evaluation goes on as it began, whatever is asked for
        set_threads.clear()
        did(*words, *extra, "--resume")
        assert set_threads[0] == 3
        assert read(here / "e" / "engine.json") == note
        assert read(here / "e" / "card.json")["tasks"] == before
    set_threads.clear()
    did(*words[:-1], "other", "--threads", "2")
    assert set_threads[0] == 2
    assert read(here / "other" / "engine.json")["measured"] is False


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"threads": "many"}'])
def test_a_note_that_cannot_be_read_is_said(text: str, here: Path) -> None:
    words = ("eval", str(workshop() / "toy"), *EVAL, "--out", "e")
    did(*words)
    (here / "e" / "engine.json").write_text(text)
    assert_refused(banty(*words, "--resume"), "engine.json does not say how many threads the run uses")


# What is refused.


def assert_refused(said: Said, words: str) -> None:
    assert (said.status, said.out) == (2, ""), said.out + said.err
    assert said.err.startswith("error: ")
    assert words in said.err
    assert len(said.err.splitlines()) == 1, said.err
    assert "Traceback" not in said.err


def broken(folder: Path, name: str) -> Path:
    """The toy model, or the adapter on it, broken in the way of that name."""
    source = workshop() / ("rl/weights" if name.startswith("adapter") else "toy")
    made = Path(shutil.copytree(source, folder / name.replace(" ", "-")))
    weights, config = made / "model.safetensors", made / "config.json"
    if name == "no weights":
        weights.rename(made / "pytorch_model.bin")
    elif name == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif name == "another family":
        config.write_text(json.dumps(read(config) | {"model_type": "llama"}))
    elif name == "no template":
        (made / "chat_template.jinja").unlink()
    elif name == "adapter without base":
        stored = read(made / "adapter_config.json") | {"base_model_name_or_path": str(folder / "gone")}
        (made / "adapter_config.json").write_text(json.dumps(stored))
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no weights", "holds no *.safetensors"),
        ("truncated", "cannot be loaded as a model"),
        ("another family", "is a 'llama' model"),
        ("no template", "has no chat template"),
        ("adapter without base", "gone of the adapter in"),
    ],
)
def test_a_broken_folder_gets_one_sentence(name: str, words: str, here: Path) -> None:
    folder = broken(here, name)
    assert_refused(banty("eval", str(folder), *EVAL, "--out", "e"), words)
    trained = banty("train", str(workshop() / "rl.toml"), f"policy.start={folder}", "--allow-code", "--out", "run")
    assert_refused(trained, words)
    assert list(here.iterdir()) == [folder], "nothing is written"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dtype", "float16"), "float32"),
        (("--device", "cuda"), "no CUDA device"),
        (("--threads", "-1"), "threads is -1; it takes 0 to 1024"),
        (("--max-tokens", "0"), "max_tokens is 0; it takes at least 1"),
        (("--temperature", "-1"), "temperature is -1"),
        (("--device", "gpu"), "device is 'gpu'; it takes cpu, cuda, or cuda:N"),
    ],
)
def test_an_option_that_cannot_be_gets_one_sentence(
    options: tuple[str, ...], words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_refused(banty("eval", str(workshop() / "toy"), *EVAL, *options, "--out", "e"), words)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "change", "words"),
    [
        ("rl", "policy.start=''", "policy.start is empty"),
        ("rl", "policy.start=no/where/at-all", "there is no model folder"),
        ("rl", "policy.lora_rank=-1", "policy.lora_rank is -1; it takes 0 to 1024"),
        ("rl", "policy.dtype=float16", "float32"),
        ("rl", "learner.micro_batch_tokens=0", "learner.micro_batch_tokens is 0; it takes at least 1"),
        ("rl", "learner.micro_batch_tokens=10000000000000", "train an adapter (policy.lora_rank)"),
        ("rl", "credit.estimator=guess", "credit.estimator is 'guess'"),
        ("sft", "policy.type=habits", "policy.type is 'habits'"),
        ("sft", "data.rollouts=[]", "data names nothing to imitate"),
        ("sft", "train.batch_size=0", "train.batch_size is 0"),
        ("sft", "kind=dpo", "kind is 'dpo'; known are rl, sft"),
    ],
)
def test_a_recipe_that_cannot_be_gets_one_sentence(recipe: str, change: str, words: str, here: Path) -> None:
    start = () if change.startswith("policy.start") else (f"policy.start={workshop() / 'toy'}",)
    data = () if recipe == "rl" or change.startswith("data") else (f"data.rollouts=['{workshop() / 'expert'}']",)
    told = banty("train", str(workshop() / f"{recipe}.toml"), *start, *data, change, "--allow-code", "--out", "run")
    assert_refused(told, words)
    assert list(here.iterdir()) == []


def test_a_run_that_would_not_fit_is_refused_before_it_begins(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    start = f"policy.start={workshop() / 'toy'}"
    told = banty("train", str(workshop() / "rl.toml"), start, "--allow-code", "--out", "run")
    assert_refused(told, "training toy on micro-batches of 16384 tokens takes at least")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("change", ["data.traces=['absent.jsonl']", "data.rollouts=['absent']", "data.tokens=sampled"])
def test_data_that_cannot_be_imitated_are_refused_before_anything_is_written(change: str, here: Path) -> None:
    data = () if change.startswith("data.rollouts") else (f"data.rollouts=['{workshop() / 'expert'}']",)
    start = f"policy.start={workshop() / 'toy'}"
    told = banty("train", str(workshop() / "sft.toml"), start, *data, change, "--allow-code", "--out", "run")
    assert told.status == 2
    assert list(here.iterdir()) == []


def test_a_fine_tuning_recipe_need_not_say_that_it_trains_a_model(here: Path) -> None:
    (here / "sft.toml").write_text(SFT.replace('type = "model"\n', ""))
    start, data = f"policy.start={workshop() / 'toy'}", f"data.rollouts=['{workshop() / 'expert'}']"
    did("train", "sft.toml", start, data, "--allow-code", "--dry-run")


def test_a_lost_pace_is_noted_and_a_resumed_run_goes_on_with_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    note = {"threads": 4, "measured": True}
    (tmp_path / "engine.json").write_text(json.dumps(note))
    engine = SimpleNamespace(lost_pace=False)
    policy = SimpleNamespace(engine=engine)
    local.note_pace(tmp_path, policy, "step 3")
    assert (read(tmp_path / "engine.json"), asked) == (note, [])
    engine.lost_pace = True
    for when in ("step 4", "step 5"):
        local.note_pace(tmp_path, policy, when)
    assert read(tmp_path / "engine.json") == {**note, "threads_now": 1, "lost_pace": "step 4"}
    assert local.settle_threads(load_model(workshop() / "toy"), 0, tmp_path)["threads"] == 4
    assert asked == [1, 1, 1]
    local.note_pace(tmp_path / "nowhere", object(), "a policy without an engine")


def test_a_run_begun_without_kernels_goes_on_without_them_and_the_next_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(workshop() / "toy")
    fresh = local.settle_threads(model, 1, None)["kernels"]
    (tmp_path / "engine.json").write_text(json.dumps({"threads": 1}))  # of before there were kernels
    assert "kernels_now" not in local.settle_threads(model, 1, tmp_path)
    assert compiled("layers", torch.float32, torch.device("cpu")) is None
    assert local.settle_threads(model, 1, None)["kernels"] == fresh, "the switch is the run's, not the process's"
    monkeypatch.setenv(SWITCH, "0")
    assert local.settle_threads(model, 1, None)["kernels"] == "torch"
    (tmp_path / "engine.json").write_text(json.dumps({"threads": 1, "kernels": "native"}))
    assert local.settle_threads(model, 1, tmp_path)["kernels_now"] == "torch"


def test_a_run_goes_on_with_the_kernels_it_began_with_and_says_which_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("nano", dtype="bfloat16")
    fresh = str(local.settle_threads(model, 1, None)["kernels"])
    if "decoder" not in fresh:
        pytest.skip("there is no C compiler here, or no processor with AMX")
    assert fresh == ", ".join(KERNELS)
    (tmp_path / "engine.json").write_text(json.dumps({"threads": 1, "kernels": "native"}))  # of before there was one
    assert "kernels_now" not in local.settle_threads(model, 1, tmp_path)
    assert decoder_of(model) is None
    assert compiled("draws", torch.bfloat16, torch.device("cpu")) is None
    (tmp_path / "engine.json").write_text(json.dumps({"threads": 1, "kernels": fresh}))
    assert "kernels_now" not in local.settle_threads(model, 1, tmp_path)
    assert decoder_of(model) is not None
    monkeypatch.setattr("banty.models.slots.decoder_library", lambda model: None)  # as without AMX
    assert local.settle_threads(model, 1, tmp_path)["kernels_now"] == "attention, draws, layers"


def test_a_damaged_note_of_the_machine_costs_a_sentence_and_no_run(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(json.dumps({"threads": 1, "machine": {"name": "x"}}))
    assert local.machine_of(tmp_path) is None
    assert training.speed_sentence(tmp_path) == ""


# Knowing where the time goes.


def test_a_run_says_what_each_phase_used_and_names_a_lever() -> None:
    run = workshop() / "rl"
    (row, *_) = read_metrics(run / "metrics.jsonl")
    for phase in ("prefill", "decode", "train"):
        assert row[f"perf/{phase}_tokens"] > 0, phase
        assert row[f"perf/{phase}_passes"] > 0 or phase == "prefill", "short prompts share passes with sampling"
        assert 0.0 < row[f"time/{phase}_of_limit"] < 2.0, phase
        assert row[f"time/{phase}_s"] <= row["time/step_s"], phase
    assert row["perf/decode_tokens"] <= row["tokens/sampled"]
    assert row["perf/train_tokens"] == row["train/passed_tokens"] <= row["train/flat_tokens"]
    assert read(run / "engine.json")["machine"]["flops_s"] > 1e8
    assert re.search(
        r"^[a-z]+ takes \d+% of the time( at \d+% of this machine's limit)?: .", training.speed_sentence(run)
    )
    assert "Where the time went" in (run / "report.html").read_text()


def test_a_plan_predicts_a_run_that_then_takes_about_that(here: Path) -> None:
    found = json.loads(
        did(
            "plan",
            str(workshop() / "rl.toml"),
            f"policy.start={workshop() / 'sft' / 'weights'}",
            "--allow-code",
            "--json",
        )
    )
    assert found["step_s"] == pytest.approx(
        found["prefill_s"]
        + found["decode_s"]
        + found["turns_s"]
        + found["train_s"]
        + found["score_s"]
        + found["kept_s"]
    )
    assert found["memory_bytes"] > 1e8
    assert found["cost_usd"] == 0.0
    real = read_metrics(workshop() / "rl" / "metrics.jsonl")[0]
    assert found["sampled_tokens"] == pytest.approx(real["tokens/sampled"], rel=0.5)
    assert found["trained_tokens"] == pytest.approx(real["train/flat_tokens"], rel=0.6)
    assert list(here.iterdir()) == [], "a plan writes nothing"


def test_a_plan_of_another_machine_says_that_it_is_assumed(here: Path) -> None:
    words = ("plan", str(workshop() / "rl.toml"), f"policy.start={workshop() / 'sft' / 'weights'}", "--allow-code")
    told = did(*words, "policy.dtype=bfloat16", "--device", "h200", "--lengths", str(workshop() / "rl"), "--price", "3")
    assert "assumed, not measured" in " ".join(told.split())
    assert "on h200" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "tpu"], "device is 'tpu'; it takes here, h200, h100, a100"),
        (["--lengths", "nowhere"], "nowhere holds no rollouts"),
        (["--price", "-1"], "--price is -1"),
        (["policy.type=habits"], "habit policy computes next to nothing"),
        (["--price", "nan"], "--price is nan"),
        (["--device", "h200"], "plan with policy.dtype=bfloat16"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(words: list[str], said: str, here: Path) -> None:
    start = f"policy.start={workshop() / 'sft' / 'weights'}"
    shown = banty("plan", str(workshop() / "rl.toml"), start, "--allow-code", *words)
    assert shown.status == 2
    assert said in " ".join(shown.err.split())


def test_fine_tuning_is_not_planned(here: Path) -> None:
    assert "only RL recipes are planned" in " ".join(banty("plan", str(workshop() / "sft.toml")).err.split())


def test_an_evaluation_says_what_its_phases_used_sitting_by_sitting(tmp_path: Path) -> None:
    words = (
        "eval",
        str(workshop() / "toy"),
        *ENV,
        *SMALL,
        "--threads",
        "1",
        "--no-baselines",
        "--out",
        str(tmp_path / "e"),
    )
    said = banty(*words)
    assert said.status == 0, said.err
    assert "speed: " in said.out
    (row,) = read_metrics(tmp_path / "e" / "metrics.jsonl")
    assert row["perf/decode_tokens"] > 0
    assert row["perf/prefill_tokens"] > 0
    assert 0.0 < row["time/decode_s"] < row["time/step_s"]
    again = banty(*words, "--resume")
    assert again.status == 0, again.err
    assert len(read_metrics(tmp_path / "e" / "metrics.jsonl")) == 1, "nothing was played, nothing is noted"
    assert banty("report", str(tmp_path / "e")).status == 0
    assert "Where the time went" in (tmp_path / "e" / "report.html").read_text()
