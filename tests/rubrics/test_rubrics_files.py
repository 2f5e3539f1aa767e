"""Reward files: what comes with Banty, what is written is read back, what is wrong is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from banty.errors import InputError, StoreError
from banty.records import ToolMatching
from banty.rubrics import (
    LOOSE,
    Matching,
    Predicate,
    RewardFile,
    Tier,
    diff_of,
    packaged,
    read_reward_file,
    with_functions,
    write_reward_file,
)

WHOLE = RewardFile(
    name='mine "2"',
    version=3,
    tiers={
        "gold": Tier(1.0, "golden", once=True, intended=1, pinned=True),
        "slow": Tier(-0.25, "/somewhere/tiers.py:slow", cap=2, intended=-1),
        "read": Tier(1e-05, "read", scope="read"),
    },
    matching=dataclasses.replace(
        LOOSE,
        tools={"put it": ToolMatching(as_set=("tags", "ids")), "take": ToolMatching(ignore=("note",), text=("a",))},
    ),
    several_calls="sum",
    soft_writes=True,
    parent="0" * 64,
    note="Reads were noise.\nSee ü \\ \x7f.",
)


def turned_around(file: RewardFile) -> dict[str, Tier]:
    return dict(list(file.tiers.items())[::-1])


def values(name: str) -> dict[str, float]:
    return {key: tier.value for key, tier in read_reward_file(name).tiers.items()}


def test_the_packaged_files() -> None:
    assert list(packaged()) == ["irc", "naive-dense", "outcome"]
    dense = {"gold": 1.0, "soft": 1.0, "read": 0.3, "write": 0.1, "message": 0.0, "error": -0.1, "duplicate": -0.2}
    assert values("naive-dense") == {**dense, "noop": 0.0}
    assert values("irc") == {**values("naive-dense"), "read": 0.0, "write": -0.1}
    assert set(values("outcome").values()) == {0.0}
    assert len({tuple(values(name)) for name in packaged()}) == 1, "the same tiers in the same order"
    for name in packaged():
        file = read_reward_file(name)
        assert file.name == name
        assert (file.matching, file.soft_writes, file.several_calls) == (Matching(), False, "worst")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write_reward_file(tmp_path / "mine.toml", WHOLE)
    again = read_reward_file(path)
    assert again == WHOLE
    assert list(again.tiers) == list(WHOLE.tiers)
    assert again.sha256 == WHOLE.sha256
    assert again.code == ("/somewhere/tiers.py:slow",)
    for name in packaged():
        assert read_reward_file(
            write_reward_file(tmp_path / f"{name}.toml", read_reward_file(name))
        ) == read_reward_file(name)


def test_the_digest_is_of_what_the_file_says() -> None:
    assert dataclasses.replace(WHOLE, version=4).sha256 != WHOLE.sha256
    turned = dataclasses.replace(WHOLE, tiers=turned_around(WHOLE))
    assert turned.sha256 != WHOLE.sha256, "precedence is part of it"


def test_a_difference_is_told_key_by_key() -> None:
    a, b = read_reward_file("naive-dense"), read_reward_file("irc")
    assert diff_of(a, a) == []
    assert diff_of(a, dataclasses.replace(b, name=a.name)) == [
        "tiers.write.value: 0.1 -> -0.1",
        "tiers.read.value: 0.3 -> 0.0",
        "tiers.read.intended: 1 -> 0",
    ]
    fewer = dataclasses.replace(a, tiers={"gold": a.tiers["gold"]})
    assert "tiers.read.value: 0.3 -> (gone)" in diff_of(a, fewer)
    assert "tiers.read.value: (not there) -> 0.3" in diff_of(fewer, a)
    turned = dataclasses.replace(a, tiers=turned_around(a))
    (line,) = diff_of(a, turned)
    assert line.startswith("order of tiers: gold, soft, error")


HEAD = 'format = 1\nname = "mine"\nversion = 1\n'
GOLD = "[tiers.gold]\nvalue = 1.0\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOLD, "format is missing; this version reads format = 1"),
        (HEAD.replace("= 1", "= 2", 1) + GOLD, "format is 2; this version reads format = 1"),
        (HEAD, "missing tiers"),
        (HEAD + "[tiers]\n", "tiers is empty; add a table such as"),
        (HEAD + "weight = 2\n" + GOLD, "unknown key 'weight'; known are format, name, version, tiers, matching"),
        (HEAD + "soft_write = true\n" + GOLD, "unknown key 'soft_write'; did you mean 'soft_writes'"),
        (HEAD + "functions = {}\n" + GOLD, "unknown key 'functions'"),
        (HEAD + 'several_calls = "max"\n' + GOLD, "several_calls is 'max'; allowed are worst, best, sum"),
        (HEAD.replace("version = 1", "version = 0") + GOLD, "version is 0; it takes a whole number from 1"),
        (HEAD + 'parent = "naive-dense"\n' + GOLD, "parent is 'naive-dense'; it takes the sha256"),
        (HEAD.replace("mine", "") + GOLD, "name is empty"),
        (
            HEAD + GOLD + "[tiers.gold]\nvalue = 2.0\n",
            "is not a readable TOML file: Cannot declare ('tiers', 'gold') twice",
        ),
        (HEAD + GOLD + "value = 2.0\n", "is not a readable TOML file"),
        (HEAD + "[tiers.golden_calls]\nvalue = 1.0\n", "'golden_calls' is no usual tier; known are gold, soft, error"),
        (HEAD + "[tiers.golld]\nvalue = 1.0\n", "'golld' is no usual tier; did you mean 'gold'"),
        (HEAD + "[tiers.Gold]\nvalue = 1.0\npredicate = 'golden'\n", "a tier's name takes lower-case letters"),
        (HEAD + GOLD + "predicate = 'goldn'\n", "tiers.gold: predicate is 'goldn'; did you mean 'golden'"),
        (HEAD + GOLD + "predicate = 'mine.py'\n", "tiers.gold: predicate is 'mine.py'; write FILE.py:NAME"),
        (HEAD + GOLD.replace("1.0", "inf"), "tiers.gold: value is inf; it takes a finite number"),
        (HEAD + GOLD.replace("1.0", "nan"), "tiers.gold: value is nan"),
        (HEAD + GOLD.replace("1.0", '"much"'), "tiers.gold: value takes a number, got 'much'"),
        (HEAD + "[tiers.gold]\n", "tiers.gold: missing value"),
        (HEAD + "[tiers]\ngold = 1.0\n", "tiers.gold takes a table, got 1.0"),
        (HEAD + GOLD + "cap = -1\n", "tiers.gold: cap is -1; it takes how often the tier pays"),
        (HEAD + GOLD + "intended = 2\n", "tiers.gold: intended is 2; allowed are -1, 0, 1"),
        (HEAD + GOLD + "intended = true\n", "tiers.gold: intended is true; allowed are -1, 0, 1"),
        (HEAD + GOLD + "scope = 'writes'\n", "tiers.gold: scope is 'writes'; allowed are any, read, write"),
        (HEAD + GOLD + "caps = 1\n", "tiers.gold: unknown key 'caps'; did you mean 'cap'"),
        (HEAD + "[tiers.message]\nvalue = 0.1\nonce = true\n", "tiers.message: scope and once are about calls"),
        (HEAD + GOLD + "[matching]\nnumber = true\n", "matching: unknown key 'number'; did you mean 'numbers'"),
        (HEAD + GOLD + "[matching.tools.put]\nsets = ['a']\n", "matching: tools.put: unknown key 'sets'"),
        (HEAD + "name =\n", "is not a readable TOML file"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as said:
        read_reward_file(path)
    assert str(said.value).startswith(str(path))
    assert told in str(said.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no reward file 'naive_dense'; did you mean 'naive-dense'"):
        read_reward_file("naive_dense")
    with pytest.raises(InputError, match=r"no reward file 'best'; packaged are irc, naive-dense, outcome"):
        read_reward_file("best")
    with pytest.raises(InputError, match=r"no reward file .*/mine.toml; a packaged one is named without .toml"):
        read_reward_file(tmp_path / "mine.toml")
    with pytest.raises(InputError, match="is not a readable TOML file"):
        read_reward_file(tmp_path)


def test_a_file_that_cannot_work_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bad.toml: tiers.gold: value is inf"):
        write_reward_file(tmp_path / "bad.toml", RewardFile("x", 1, {"gold": Tier(float("inf"), "golden")}))
    with pytest.raises(StoreError):
        write_reward_file(tmp_path / "nowhere" / "mine.toml", WHOLE)
    assert list(tmp_path.iterdir()) == []


def test_python_tiers_are_named_relative_to_their_file_and_loaded_by_the_caller(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(HEAD + "[tiers.slow]\nvalue = -0.1\npredicate = 'tiers.py:slow'\n" + GOLD)
    file = read_reward_file(tmp_path / "mine.toml")
    place = f"{tmp_path.resolve()}/tiers.py:slow"
    assert file.code == (place,)
    asked: list[str] = []

    def never(*given: object) -> bool:
        return False

    def load(named: str) -> Predicate:
        asked.append(named)
        return never

    loaded = with_functions(file, load)
    assert asked == [place]
    assert loaded.functions[place] is never
    assert read_reward_file(write_reward_file(tmp_path / "copy.toml", loaded)) == file


def test_rules_of_a_taskset_give_way_to_the_files_own() -> None:
    own, theirs = ToolMatching(ignore=("a",)), ToolMatching(ignore=("b",))
    file = RewardFile("x", 1, {}, Matching(tools={"put": own}))
    assert file.with_rules({"put": theirs, "take": theirs}).matching.tools == {"put": own, "take": theirs}


def test_what_needs_golden_calls() -> None:
    gold, read = Tier(1.0, "golden"), Tier(0.0, "read")
    assert RewardFile("x", 1, {"gold": gold, "read": read}).needs_golden
    assert not RewardFile("x", 1, {"gold": gold, "read": Tier(0.1, "read")}).needs_golden
    assert not RewardFile("x", 1, {"gold": Tier(0.0, "golden"), "read": read}).needs_golden, "nothing pays anyway"
