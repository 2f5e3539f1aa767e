"""Who plays the user: from what `--user` says to a taskset that asks for one, and a policy that answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from banty.cli.choices import Chosen, endpoint_of, is_model, options_of
from banty.envs.registry import make_taskset, source_of
from banty.errors import InputError
from banty.models.packaged import PACKAGED, place_of
from banty.policies.endpoint import ChatEndpoint
from banty.policies.users import SimulatedUser
from banty.records import JSON, Policy, SamplingParams, Taskset

USER_KEY_ENV = "BANTY_USER_API_KEY"
SCRIPTED = "scripted"
_TRIES = 3
TIMEOUT_S = 55.0
"""Two of these fit into what an episode waits for an answer, with the delay between them."""

OpenFolder = Callable[[Path], Chosen]


class User(NamedTuple):
    """Who plays the user, by a name for people and folders; `policy` is None where the environment plays its own."""

    name: str = ""
    policy: SimulatedUser | None = None
    params: SamplingParams = SamplingParams()
    details: Mapping[str, JSON] = {}
    exact: bool = True
    engine: Mapping[str, JSON] = {}

    @property
    def roles(self) -> Mapping[str, Policy]:
        return {} if self.policy is None else {"user": self.policy}

    @property
    def role_params(self) -> Mapping[str, SamplingParams]:
        return {} if self.policy is None else {"user": self.params}

    @property
    def role_details(self) -> Mapping[str, Mapping[str, JSON]]:
        return {} if self.policy is None else {"user": self.details}

    def notes(self) -> dict[str, Any]:
        """What only its answers showed: the names a server gave its model, and why it was asked again."""
        if self.policy is None:
            return {}
        served = self.policy.policy.served if isinstance(self.policy.policy, ChatEndpoint) else set()
        return {"served": sorted(served), "asked_again": dict(self.policy.asked_again)}


class Desk(NamedTuple):
    """A taskset, and the options that make it again; `source` is the file it is in, if it is a user's own."""

    taskset: Taskset
    options: Mapping[str, Any]
    source: str = ""


def desks_for(
    env: str, pairs: Sequence[str], allow_code: bool, specs: Sequence[str], guidelines: str = ""
) -> list[Desk]:
    """The taskset for each user; `guidelines` are for those whom a model plays."""
    if guidelines and all(spec in ("", SCRIPTED) for spec in specs):
        raise InputError("--user-guidelines is for a user played by a model; name one with --user")
    return [desk_for(env, pairs, allow_code, spec, "" if spec == SCRIPTED else guidelines) for spec in specs]


def desk_for(env: str, pairs: Sequence[str], allow_code: bool, spec: str = "", guidelines: str = "") -> Desk:
    """The taskset with the user that `spec` names: its own for `scripted`, one that is asked for anything else.

    Without a `spec` the taskset is as its options say. Raises InputError for options that name another user, and for a
    taskset that cannot have this one.
    """
    options = options_of(pairs)
    if not spec:
        return Desk(make_taskset(env, options, allow_code), options, source_of(env))
    wanted = SCRIPTED if spec == SCRIPTED else "model"
    if options.get("customer", wanted) != wanted:
        raise InputError(f"--user {spec} is customer={wanted}, and --option says customer={options['customer']}")
    taskset = make_taskset(env, options, allow_code)
    fits = ("user" in taskset.roles) == (wanted == "model")
    more = {} if fits else {"customer": wanted}
    if guidelines:
        more["guidelines"] = str(Path(guidelines).expanduser().resolve())
    if not more:
        return Desk(taskset, options, source_of(env))
    whole = {**options, **more}
    try:
        return Desk(make_taskset(env, whole, allow_code), whole, source_of(env))
    except InputError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
    if fits:
        raise InputError(f"{taskset.env} takes no guidelines for its user; leave out --user-guidelines")
    plays = (
        "asks for a user and has no script for one" if wanted == SCRIPTED else "plays its own user and asks for none"
    )
    raise InputError(f"{taskset.env} {plays}; leave out --user {spec}")


def user_of_spec(
    spec: str,
    open_folder: OpenFolder | None = None,
    temperature: float = 0.0,
    max_tokens: int | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
) -> User:
    """The user that `spec` names: `scripted`, an endpoint's `URL[#MODEL]`, or a model's folder or packaged name."""
    if spec in ("", SCRIPTED):
        return User(spec)
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens)
    if spec.startswith(("http://", "https://")):
        endpoint = endpoint_of(spec, prices=prices, key_env=USER_KEY_ENV, timeout_s=TIMEOUT_S, timeout_tries=2)
        details = {"name": endpoint.model, "kind": "endpoint", "model": endpoint.model}
        policy = SimulatedUser(endpoint, f"{endpoint.name}, temperature {temperature:g}", tries=_TRIES)
        return User(endpoint.model, policy, params, details, exact=False)
    folder = place_of(spec)
    found = next((place for place in (folder, folder / "weights") if is_model(place)), None)
    if found is None or open_folder is None:
        packaged = ", ".join(PACKAGED)
        raise InputError(
            f"{spec!r} is no user: give {SCRIPTED}, {packaged}, a folder with a model, or an endpoint's http(s) URL"
        )
    chosen = open_folder(found)
    name = spec if spec in PACKAGED else (folder.name if found == folder else f"{folder.name}-weights")
    details = {"name": name, "kind": "model", **chosen.details}
    sha256 = str(chosen.details.get("weights_sha256", ""))[:12]
    told = ", ".join(part for part in (f"weights {sha256}" if sha256 else "", f"temperature {temperature:g}") if part)
    return User(name, SimulatedUser(chosen.policy, f"{name}, {told}"), params, details, chosen.exact, chosen.engine)


def temperatures_of(given: Sequence[float], num_users: int) -> list[float]:
    """A temperature for each user: as many as there are users, or one for all."""
    values = list(given) or [0.0]
    if len(values) not in (1, num_users):
        raise InputError(
            f"--user-temperature is given {len(values)} times for {num_users} users; give one, or one each"
        )
    for value in values:
        if not 0 <= value < float("inf"):
            raise InputError(f"--user-temperature is {value}; it takes a finite number, 0 or more")
    return values * num_users if len(values) == 1 else values


def apart(users: Sequence[User]) -> list[User]:
    """The users with names of their own: what two share gets their temperature, or server, where that tells them apart.

    Raises InputError for a user who is named twice.
    """
    named = list(users)
    for more in (_at_temperature, _at_host):
        longer = [more(user) for user in named]
        shared = {name for name, count in Counter(user.name for user in named).items() if count > 1}
        for name in shared:
            places = [place for place, user in enumerate(named) if user.name == name]
            if len({longer[place].name for place in places}) == len(places):
                for place in places:
                    named[place] = longer[place]
    counts = Counter(slug(user.name) for user in named)
    twice = next((user.name for user in named if counts[slug(user.name)] > 1), None)
    if twice is not None:
        raise InputError(f"--user names {twice} twice; give each user once, or temperatures of their own")
    return named


def _at_temperature(user: User) -> User:
    return user._replace(name=f"{user.name}-t{user.params.temperature:g}") if user.policy else user


def _at_host(user: User) -> User:
    if user.policy is None or not isinstance(user.policy.policy, ChatEndpoint):
        return user
    return user._replace(name=f"{user.name}@{user.policy.policy.host}")


def slug(name: str) -> str:
    """A user's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "user"
