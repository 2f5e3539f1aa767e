"""A draw depends on the seed and on what it is for: for ever, everywhere, and on nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banty.records import Task, bucket, derive, generator

# Changing any of these changes every task, every split and every stored result there is.
DERIVED = {
    "derive(0)": 7210762507766007076,
    "derive(0, 'sampler', 3)": 2151976851260574621,
    "derive(-7, 'a', 'b')": 3347589984265884410,
    "derive(2**63 - 1, 'x')": 2837589202009916758,
    "derive(0, 'Zo\\u00eb')": 8915720031512891880,
    "derive(0, '\\U0001fae8')": 6314368505855222334,
    "derive(0, \"it's\", '\"', '\\n')": 1602389329174259757,
    "bucket('u_0001', 10)": 4,
    "bucket('Zo\\u00eb', 1000)": 433,
    "Task('airline/mini', 'test', 3, 7).env_seed": 4898529259527666970,
    "int(generator(0, 'greeting').integers(2**62))": 525065037902702253,
    "int(generator(5, 'greeting', 2).integers(2**62))": 1865098372450460028,
    "generator(5, 'noise', 1).random()": 0.9169040999867365,
}


@pytest.mark.parametrize("expression", DERIVED)
def test_a_draw_stays_what_it_is(expression: str) -> None:
    scope = {"derive": derive, "bucket": bucket, "generator": generator, "Task": Task}
    assert eval(expression, scope) == DERIVED[expression]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_and_in_every_process(hash_seed: str) -> None:
    script = (
        "import json, sys\n"
        "from banty.records import Task, bucket, derive, generator\n"
        "print(json.dumps([eval(expression) for expression in json.loads(sys.argv[1])]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(list(DERIVED))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert json.loads(done.stdout) == list(DERIVED.values())


def test_distinct_keys_give_distinct_seeds() -> None:
    seeds = [
        derive(seed, purpose, turn)
        for seed in range(10)
        for purpose in ("user", "tool", "user:greet", "", "0")
        for turn in range(20)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        (("a", 1), ("a1",)),
        (("1",), (1,)),
        ((1, 2), (12,)),
        (("a', 'b",), ("a", "b")),
        ((), ("",)),
    ],
)
def test_parts_of_a_key_do_not_run_together(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert derive(0, *one) != derive(0, *other)


@given(st.integers(), st.lists(st.text() | st.integers(-(2**60), 2**60)))
def test_any_key_will_do(seed: int, key: list[str | int]) -> None:
    assert derive(seed, *key) == derive(seed, *key)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpys_integers_and_strings_are_the_ones_they_equal(kind: type[np.integer[np.typing.NBitBase]]) -> None:
    """What numpy shows of its scalars has changed between its versions."""
    number = int(kind(3))
    assert derive(kind(3), np.str_("user"), kind(3)) == derive(number, "user", number)  # type: ignore[arg-type]
    assert generator(kind(3), "user", kind(3)).random() == generator(3, "user", 3).random()  # type: ignore[arg-type]


def test_a_key_is_made_of_texts_and_whole_numbers() -> None:
    with pytest.raises(TypeError):
        derive(0, 2.5)  # type: ignore[arg-type]


def test_purposes_turns_and_seeds_draw_differently() -> None:
    draws = {
        (seed, purpose, turn): generator(seed, purpose, turn).random()
        for seed in range(4)
        for purpose in ("user", "tool")
        for turn in range(5)
    }
    assert len(set(draws.values())) == len(draws)


def test_an_extra_question_shifts_nothing() -> None:
    """Draws are no stream: asking more, or in another order, leaves each as it is."""
    plain = [generator(7, "user", turn).random() for turn in range(5)]
    curious = []
    for turn in reversed(range(5)):
        generator(7, "tool", turn).random(100)
        first = generator(7, "user", turn)
        curious.append(first.random())
        first.random(3)
    assert curious[::-1] == plain


def test_neighbouring_turns_are_not_correlated() -> None:
    draws = np.array([[generator(seed, "user", turn).random() for turn in range(2)] for seed in range(2000)])
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.08
    assert abs(draws.mean() - 0.5) < 0.02


def test_buckets_are_even_and_depend_on_the_text_alone() -> None:
    counts = np.bincount([bucket(f"u_{number}", 10) for number in range(5000)], minlength=10)
    assert counts.sum() == 5000
    assert counts.min() > 400
    assert counts.max() < 600
    assert bucket("u_1", 1) == 0


def test_tasks_of_one_seed_draw_differently() -> None:
    tasks = [
        Task(env, split, index, seed)
        for env in ("a", "b")
        for split in ("test", "train")
        for index in range(5)
        for seed in range(3)
    ]
    assert len({task.env_seed for task in tasks}) == len(tasks)
    assert Task("a", "test", 1, 2, {"shown": 1}, "data").env_seed == Task("a", "test", 1, 2).env_seed
