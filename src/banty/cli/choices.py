"""From what is typed to the objects a command works with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from banty.credit import CreditSpec
from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.evals.card import Decode
from banty.evals.suite import PerTaskPolicy
from banty.models.habits import HabitWeights
from banty.models.packaged import PACKAGED, place_of
from banty.policies.endpoint import ChatEndpoint, ToolCalls
from banty.policies.habits import HabitPolicy
from banty.policies.scripted import expert_policy
from banty.records import JSON, Expert, Policy, Taskset, sha256_json
from banty.runs import from_mapping, toml_value

KEY_ENV = "BANTY_API_KEY"
MODEL_FILES = ("config.json", "adapter_config.json")
CARELESS = 0.3
"""How often the habit policy lapses at each decision point when nothing else is said."""


class Chosen(NamedTuple):
    """A policy, how to read its decisions if it is made of habits, whether it repeats itself exactly, what tells it
    apart from others of its name, and what to note of the engine it runs on."""

    policy: Policy
    decode: Decode | None = None
    exact: bool = True
    details: Mapping[str, JSON] = {}
    engine: Mapping[str, JSON] = {}


def options_of(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs as a mapping; values are read as TOML, and as text where they are not."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--option {pair!r} is not KEY=VALUE, such as grade=tau2")
        options[key] = toml_value(text)
    return with_whole_paths(options)


def with_whole_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the paths in `data`, `guidelines`, `tasks`, `policy`, `instructions` and `tools` made absolute: a
    stored run finds them from any folder."""
    whole = dict(options)
    for key in ("data", "guidelines", "tasks", "policy", "instructions", "tools"):
        path = Path(whole[key]).expanduser() if isinstance(whole.get(key), str) else None
        if path is not None and (key in ("data", "guidelines") or path.is_file()):
            whole[key] = str(path.resolve())
    return whole


def prices_of(text: str) -> tuple[float, float]:
    """Dollars per million prompt and sampled tokens, from `IN,OUT`."""
    if not text:
        return 0.0, 0.0
    try:
        prompt, sampled = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--price {text!r} is not IN,OUT: dollars per million prompt and sampled tokens") from None
    return prompt, sampled


def credit_of(text: str) -> CreditSpec:
    """The estimator a person typed: `NAME`, or `NAME,OPTION=VALUE,...` as in a recipe's `[credit]`."""
    name, *options = (part.strip() for part in text.split(","))
    given: dict[str, Any] = {"estimator": name}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise InputError(f"--credit {text!r}: {option!r} is not OPTION=VALUE, such as hybrid,gamma=0.8")
        given[key.strip()] = toml_value(value.strip())
    spec = from_mapping(CreditSpec, given, f"--credit {text}")
    spec.check()
    return spec


def taskset_for_customer(env: str, pairs: Sequence[str], allow_code: bool) -> Taskset:
    """The taskset with its user left open for a person, where it has a `customer` option as the airline's has."""
    options = options_of(pairs)
    taskset = make_taskset(env, options, allow_code)
    if "user" in taskset.roles or "customer" in options:
        return taskset
    try:
        return make_taskset(env, {**options, "customer": "model"}, allow_code)
    except InputError:
        return taskset


def expert_of(taskset: Taskset) -> Expert:
    expert = taskset.expert()
    if expert is None:
        raise InputError(f"{taskset.env} has no scripted expert, which `expert` and `habits` are made of")
    return expert


def policy_of(
    spec: str,
    taskset: Taskset,
    tool_calls: str = "native",
    prices: tuple[float, float] = (0.0, 0.0),
    open_folder: Callable[[Path], Chosen] | None = None,
) -> Chosen:
    """The policy a person named: a built-in name, a folder of weights or a run, or an endpoint's URL.

    `open_folder` opens the folder of a language model.
    """
    if spec.startswith(("http://", "https://")):
        details = {"url": spec, "tool_calls": tool_calls}
        return Chosen(endpoint_of(spec, tool_calls, prices), exact=False, details=details)
    baselines = taskset.baselines().policies
    if spec in baselines:
        return Chosen(PerTaskPolicy(spec, baselines[spec]))
    if spec == "expert":
        return Chosen(expert_policy(expert_of(taskset)))
    if spec == "habits" or spec.startswith("habits:"):
        expert = expert_of(taskset)
        return habits_of(expert, HabitWeights.with_lapses(expert.points, _rate(spec)), spec)
    folder = place_of(spec)
    for place in (folder, folder / "weights"):
        if (place / "habits.json").is_file():
            return habits_of(expert_of(taskset), HabitWeights.load(place), f"habits@{folder.name}")
        if open_folder is not None and is_model(place):
            return open_folder(place)
    names = ", ".join([*PACKAGED, "expert", "habits", "habits:0.2", *baselines])
    raise InputError(
        f"{spec!r} is no policy: give {names}, a folder with a model or trained weights, or an endpoint's http(s) URL"
    )


def is_model(folder: Path) -> bool:
    """Whether a folder is one of a Hugging Face model, or of an adapter."""
    return any((folder / name).is_file() for name in MODEL_FILES)


def habits_of(expert: Expert, weights: HabitWeights, name: str) -> Chosen:
    details = {"weights_sha256": sha256_json([list(weights.points), weights.logits.tolist()])}
    return Chosen(HabitPolicy(expert, weights, name), weights.decisions, details=details)


def endpoint_of(
    spec: str,
    tool_calls: str = "native",
    prices: tuple[float, float] = (0.0, 0.0),
    key_env: str = KEY_ENV,
    **patience: Any,
) -> ChatEndpoint:
    """An endpoint from `URL` or `URL#MODEL`; `patience` goes to `ChatEndpoint` as it is.

    Its key, if it needs one, is in a variable of Banty's own: a key meant for one service is never sent to whatever
    URL was typed.
    """
    url, _, model = spec.partition("#")
    return ChatEndpoint(
        url,
        model=model,
        api_key_env=key_env,
        price_per_million=prices,
        tool_calls=cast(ToolCalls, tool_calls),  # which the endpoint checks
        **patience,
    )


def _rate(spec: str) -> float:
    text = spec.partition(":")[2]
    try:
        return float(text) if text else CARELESS
    except ValueError:
        raise InputError(f"{spec!r}: {text!r} is not a lapse rate; write habits:0.2") from None


def fresh_folder(out: str, stem: str) -> Path:
    """The folder a person named, or the next free `runs/STEM-NNN`."""
    if out:
        return Path(out)
    for number in itertools.count(1):
        folder = Path("runs") / f"{stem}-{number:03d}"
        try:
            folder.mkdir(parents=True)  # made at once, so that two commands never take the same
        except FileExistsError:
            continue
        break
    return folder
