"""The weights of a habit policy: two logits a decision point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from banty.errors import InputError
from banty.records import canonical_json

START_ID = 0
_FILE = "habits.json"
_FORMAT = "banty-habits-1"


@dataclass(frozen=True)
class HabitWeights:
    """A logit for each option of each decision point, [num_points, 2]: discipline in column 0, the lapse in column 1.

    As tokens: id 0 starts a turn, and option `o` of point `p` is id `1 + 2 * p + o`. An option's id names its point, so
    ids alone are enough to compute logprobs.
    """

    points: Mapping[str, tuple[str, str]]
    logits: npt.NDArray[np.float64]
    version: int = 0

    @classmethod
    def with_lapses(cls, points: Mapping[str, tuple[str, str]], lapse: float | Mapping[str, float]) -> HabitWeights:
        """Weights under which point p lapses with probability `lapse`, or `lapse[p]`, at temperature 1."""
        if isinstance(lapse, Mapping) and set(lapse) != set(points):
            raise InputError(f"lapse rates were given for {', '.join(lapse)}; they are needed for {', '.join(points)}")
        rates = {point: lapse[point] if isinstance(lapse, Mapping) else lapse for point in points}
        for point, rate in rates.items():
            if not 0.0 < rate < 1.0:
                raise InputError(
                    f"the lapse rate of {point!r} is {rate}; it takes a number between 0 and 1, ends excluded"
                )
        logits = np.array([[0.0, np.log(rate) - np.log1p(-rate)] for rate in rates.values()])
        return cls(dict(points), logits)

    def logprobs(self, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        """Log-probabilities of the options, [num_points, 2]. At temperature 0 the likelier option has all of it."""
        if temperature == 0.0:
            best = self.logits == self.logits.max(axis=1, keepdims=True)
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(best / best.sum(axis=1, keepdims=True)))
        scaled = self.logits / temperature
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

    def lapse_rates(self) -> dict[str, float]:
        return dict(zip(self.points, np.exp(self.logprobs())[:, 1].tolist(), strict=True))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = {
            "format": _FORMAT,
            "version": self.version,
            "points": [[point, *options] for point, options in self.points.items()],
            "logits": self.logits.tolist(),
        }
        (folder / _FILE).write_text(canonical_json(data) + "\n")

    @classmethod
    def load(cls, folder: Path) -> HabitWeights:
        path = folder / _FILE
        try:
            data = json.loads(path.read_text())
            logits = np.array(data["logits"], dtype=np.float64)
            points = {str(point): (str(good), str(lapse)) for point, good, lapse in data["points"]}
            weights = cls(points, logits, int(data["version"]))
            known = data["format"] == _FORMAT
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} does not hold the weights of a habit policy: {error}") from error
        if not known:
            raise InputError(f"{path} has the format {data['format']!r}; this Banty reads {_FORMAT!r}")
        if logits.shape != (len(points), 2):
            raise InputError(f"{path} has logits of shape {logits.shape}; {len(points)} points need ({len(points)}, 2)")
        if not np.isfinite(logits).all():
            raise InputError(f"{path} has logits that are not finite: the weights are damaged, or training diverged")
        return weights

    def decisions(self, ids: Sequence[int]) -> list[tuple[str, bool]]:
        """The decision points that option ids belong to, and whether each lapsed."""
        points = list(self.points)
        return [(points[(option - 1) // 2], (option - 1) % 2 == 1) for option in ids]


def option_id(point: int, option: int) -> int:
    return 1 + 2 * point + option
