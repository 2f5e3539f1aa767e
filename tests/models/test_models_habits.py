"""The weights of a habit policy: rates in and out, log-probabilities, and files that say what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.errors import InputError
from banty.models.habits import START_ID, HabitWeights, option_id

POINTS = {"zebra": ("asks", "guesses"), "apple": ("stops", "goes on"), "mango": ("reads", "skips")}
RATES = st.floats(1e-6, 1 - 1e-6)
LOGITS = st.lists(st.floats(-30, 30), min_size=6, max_size=6)
TEMPERATURES = st.floats(0.05, 20.0)


def weights_of(logits: list[float], version: int = 0) -> HabitWeights:
    return HabitWeights(POINTS, np.array(logits, dtype=np.float64).reshape(3, 2), version)


@settings(derandomize=True, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(POINTS, RATES)))
def test_lapse_rates_come_back_as_they_were_given(rates: dict[str, float]) -> None:
    found = HabitWeights.with_lapses(POINTS, rates).lapse_rates()
    assert list(found) == list(POINTS)
    for point, rate in rates.items():
        assert found[point] == pytest.approx(rate, rel=1e-9, abs=1e-12)


def test_rates_go_by_name_and_not_by_order() -> None:
    rates = {"mango": 0.1, "zebra": 0.2, "apple": 0.7}
    assert HabitWeights.with_lapses(POINTS, rates).lapse_rates() == pytest.approx(rates)


def test_one_rate_is_for_every_point() -> None:
    assert HabitWeights.with_lapses(POINTS, 0.25).lapse_rates() == pytest.approx(dict.fromkeys(POINTS, 0.25))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_rate_that_is_no_chance_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        HabitWeights.with_lapses(POINTS, rate)


@pytest.mark.parametrize("rates", [{"zebra": 0.1}, {}, {**dict.fromkeys(POINTS, 0.1), "cherry": 0.5}])
def test_rates_for_other_points_are_refused_by_name(rates: dict[str, float]) -> None:
    with pytest.raises(InputError, match="zebra, apple, mango"):
        HabitWeights.with_lapses(POINTS, rates)


@settings(derandomize=True, deadline=None)
@given(LOGITS, TEMPERATURES)
def test_logprobs_are_the_softmax_of_the_tempered_logits(logits: list[float], temperature: float) -> None:
    weights = weights_of(logits)
    logprobs = weights.logprobs(temperature)
    assert logprobs.shape == (3, 2)
    assert logprobs.dtype == np.float64
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1), 1.0, rtol=1e-12)
    difference = (weights.logits[:, 1] - weights.logits[:, 0]) / temperature
    np.testing.assert_allclose(logprobs[:, 1] - logprobs[:, 0], difference, rtol=1e-9, atol=1e-9)


def test_extreme_logits_give_finite_logprobs() -> None:
    logprobs = weights_of([1e4, -1e4, 0, 5e3, 700, 700]).logprobs(0.1)
    assert np.isfinite(logprobs).all()
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1), 1.0)


def test_at_temperature_0_the_likelier_option_has_all_of_it() -> None:
    probabilities = np.exp(weights_of([0.1, 0.0, -3.0, -2.0, 0.5, 0.5]).logprobs(0.0))
    assert probabilities.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]


def test_a_low_temperature_approaches_temperature_0() -> None:
    weights = weights_of([0.1, 0.0, -3.0, -2.0, 1.0, 0.9])
    np.testing.assert_allclose(np.exp(weights.logprobs(1e-3)), np.exp(weights.logprobs(0.0)), atol=1e-12)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(logits=LOGITS, version=st.integers(0, 10**6))
def test_save_and_load_give_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, logits: list[float], version: int
) -> None:
    folder = tmp_path_factory.mktemp("weights") / "made" / "on the way"
    saved = weights_of(logits, version)
    saved.save(folder)
    loaded = HabitWeights.load(folder)
    assert loaded.logits.tobytes() == saved.logits.tobytes()
    assert loaded.logits.dtype == saved.logits.dtype
    assert (loaded.version, dict(loaded.points)) == (version, POINTS)
    assert list(loaded.points) == list(POINTS), "ids go by the order of the points"


def test_what_is_saved_is_plain_json(tmp_path: Path) -> None:
    weights_of([0.0, 1.0] * 3).save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["habits.json"]
    assert json.loads((tmp_path / "habits.json").read_text())["format"] == "banty-habits-1"


def _damaged(**changes: Any) -> str:
    data = {
        "format": "banty-habits-1",
        "version": 3,
        "points": [[point, *options] for point, options in POINTS.items()],
        "logits": [[0.0, 1.0]] * 3,
    }
    return json.dumps({key: value for key, value in {**data, **changes}.items() if value is not None})


DAMAGE = {
    "empty": "",
    "cut off": _damaged()[:40],
    "not an object": "[1, 2]",
    "null": "null",
    "a number": "3",
    "no logits": _damaged(logits=None),
    "no points": _damaged(points=None),
    "no version": _damaged(version=None),
    "no format": _damaged(format=None),
    "another format": _damaged(format="banty-habits-2"),
    "words for logits": _damaged(logits=[["a", "b"]] * 3),
    "ragged logits": _damaged(logits=[[0.0, 1.0], [0.0]]),
    "too few rows": _damaged(logits=[[0.0, 1.0]] * 2),
    "three options": _damaged(logits=[[0.0, 1.0, 2.0]] * 3),
    "flat": _damaged(logits=[0.0] * 6),
    "not finite": _damaged(logits=[[0.0, math.nan]] * 3),
    "infinite": _damaged(logits=[[0.0, math.inf]] * 3),
    "a point twice": _damaged(points=[["zebra", "a", "b"]] * 3),
    "points without words": _damaged(points=["zebra", "apple", "mango"]),
    "a version in words": _damaged(version="latest"),
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "habits.json").write_text(text)
    with pytest.raises(InputError, match=r"habits\.json"):
        HabitWeights.load(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "habits.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"habits\.json"):
        HabitWeights.load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"habits\.json"):
            HabitWeights.load(folder)


def test_an_option_id_names_its_point_and_its_option() -> None:
    weights = weights_of([0.0] * 6)
    ids = [option_id(point, option) for point in range(3) for option in range(2)]
    assert ids == [1, 2, 3, 4, 5, 6]
    assert START_ID not in ids
    assert weights.decisions([6, 1, 4]) == [("mango", True), ("zebra", False), ("apple", True)]
    assert weights.decisions([]) == []
