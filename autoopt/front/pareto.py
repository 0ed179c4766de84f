"""The front of a job, with what it is compared against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

from autoopt.front import dominance
from autoopt.front.config import Config
from autoopt.front.goals import RECOMMENDED_DROP, Goals
from autoopt.front.hypervolume import doublings
from autoopt.front.pick import Exporter, Pick, choose, speedup_over
from autoopt.front.table import config_row
from autoopt.front.words import ScoreWords
from autoopt.records import Estimate

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_SCORE_MARGIN = 0.05
"""How far below the reference's score `Front.hypervolume` counts: 5 points, or 5 % of a score that is not in [0, 1]."""


@dataclass(frozen=True)
class Front(Sequence[Config]):
    """The configs that no other beats, the fastest first. A sequence of `Config`."""

    configs: tuple[Config, ...]
    reference: Config
    """The network as it was given, in plain FP32: what speed-ups and drops are against."""
    lossless: Config | None
    """The fastest config with the network unchanged in FP32: the honest baseline."""
    all_configs: tuple[Config, ...]
    """Every config of the job, confirmed or not."""
    metric: str = "accuracy"
    reference_name: str = "PyTorch eager FP32"
    exporter: Exporter | None = None

    @overload
    def __getitem__(self, index: int) -> Config: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Config, ...]: ...
    def __getitem__(self, index: int | slice) -> Config | tuple[Config, ...]:
        return self.configs[index]

    def __len__(self) -> int:
        return len(self.configs)

    def __iter__(self) -> Iterator[Config]:
        return iter(self.configs)

    @cached_property
    def words(self) -> ScoreWords:
        """How scores are spoken of: in points where every score lies in [0, 1]."""
        scores = [config.score.value for config in (self.reference, *self.all_configs)]
        return ScoreWords(self.metric, in_points=all(0 <= score <= 1 for score in scores))

    @property
    def confirmed(self) -> bool:
        """Whether it was measured afresh on the test split."""
        return bool(self.configs) and all(config.confirmed for config in self.configs)

    @cached_property
    def comparable(self) -> tuple[Config, ...]:
        """The configs judged on the same split as the front: what `pick` chooses from; never empty."""
        split = self.reference.split if not self.configs else self.configs[0].split
        same = tuple(config for config in (*self.configs, *self.all_configs) if config.split == split)
        return tuple({config.id: config for config in same}.values()) or (self.reference,)

    def pick(
        self,
        max_accuracy_drop: float | None = None,
        max_latency_ms: float | None = None,
        max_size_mb: float | None = None,
        min_accuracy: float | None = None,
        *,
        max_memory_mb: float | None = None,
        max_load_s: float | None = None,
        min_rate: float | None = None,
    ) -> Pick:
        """The fastest config that meets every goal at 95 % confidence, or the nearest one and why none does.

        Chosen from every config that was judged like the front: a goal that mixes axes (size) may well be met by a
        config that is off the front.

        Args:
            max_accuracy_drop: in the metric's unit; 0.01 is one point of an accuracy.
            max_latency_ms: per sample.
            max_size_mb: of the artifact, in units of 1,000,000 bytes.
            min_accuracy: in the metric's unit.
            max_memory_mb: that loading and running adds to a process, in units of 1,000,000 bytes.
            max_load_s: seconds from the file to a session.
            min_rate: of a server: requests a second under its bound.

        Raises:
            UserError: a goal that is not a finite number, or a latency, size, memory, time or rate that is not above 0.
        """
        goals = Goals(max_accuracy_drop, max_latency_ms, max_size_mb, min_accuracy, max_memory_mb, max_load_s, min_rate)
        config, met, reason = choose(self.comparable, goals.listed(self.words))
        return Pick(
            config=config,
            met=met,
            reason=" ".join(filter(None, (reason, self._standing(config)))),
            goals=goals,
            reference=self.reference,
            reference_name=self.reference_name,
            words=self.words,
            lossless=self.lossless,
            exporter=self.exporter,
        )

    @cached_property
    def recommended(self) -> Pick:
        """What a job recommends: the fastest config that loses at most one point (of other metrics: one percent)."""
        unit = 1.0 if self.words.in_points else abs(self.reference.score.value)
        return self.pick(max_accuracy_drop=RECOMMENDED_DROP * unit)

    def listed_with(self, pick: Pick | None) -> tuple[Config, ...]:
        """The configs, the fastest first, and among them the picked one, where another stands for it on the front."""
        if pick is None or pick.config.id in self._listed:
            return self.configs
        return tuple(sorted((*self.configs, pick.config), key=dominance.order))

    def _standing(self, config: Config) -> str:
        """Why a config is not listed, in a sentence; empty where it is."""
        if config.id in self._listed or not self.configs:
            return ""
        tied = [f"#{other.number}" for other in self.indistinguishable_from(config) if other.id in self._listed]
        if tied:
            return f"It cannot be told apart from {' and '.join(tied)} of the front."
        beating = [f"#{other.number}" for other in self.beaten_by(config)]
        return f"It is not on the front, where {' and '.join(beating)} is ahead of it." if beating else ""

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(config.id for config in self.configs)

    def beaten_by(self, config: Config) -> tuple[Config, ...]:
        """The listed configs that beat this one."""
        return dominance.beaten_by(config, self.configs)

    def indistinguishable_from(self, config: Config) -> tuple[Config, ...]:
        """The configs, listed or not, that cannot be told apart from this one on either axis."""
        place = self._places.get(config.id)
        if place is None:
            return dominance.indistinguishable_from(config, self.comparable)
        tied = self._compared.tied_with(place).nonzero()[0]
        return tuple(self.comparable[other] for other in tied if other != place)

    @cached_property
    def _compared(self) -> dominance.Compared:
        return dominance.Compared(self.comparable)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {config.id: place for place, config in enumerate(self.comparable)}

    def speedup_vs_lossless(self, config: Config) -> Estimate | None:
        """How many times as fast as the best lossless config, with its interval; None where there is none."""
        return None if self.lossless is None else speedup_over(config, self.lossless)

    def hypervolume(self, score_margin: float | None = None) -> float:
        """Mean doublings of speed over all drops that one may tolerate, from none to ``score_margin``.

        2.0 says: averaged over the tolerated drop, the best config is 2² = 4 times as fast as the reference. Configs that
        are better than the reference count in addition. See `autoopt.front.hypervolume.doublings`.

        Args:
            score_margin: in the metric's unit; 5 points by default (5 % of a score that is not in [0, 1]).
        """
        return mean_doublings(self.configs, self.reference, score_margin)

    def to_pandas(self) -> pd.DataFrame:
        """A row a config, the fastest first, with the interval of each figure in ``*_low`` and ``*_high``."""
        import pandas as pd

        rows = [
            config_row(config, self.lossless)
            | {"tied_with": " ".join(other.id for other in self.indistinguishable_from(config))}
            for config in self.configs
        ]
        return pd.DataFrame(rows, columns=[*config_row(self.reference, self.lossless), "tied_with"])


def mean_doublings(configs: Sequence[Config], reference: Config, score_margin: float | None = None) -> float:
    """`Front.hypervolume` of any configs."""
    score = reference.score.value
    margin = score_margin
    if margin is None:
        margin = DEFAULT_SCORE_MARGIN * (1.0 if 0 <= score <= 1 else abs(score))  # never 0
    # Drops and latencies are paired with the reference, so the reference itself is the corner: score 0, its latency.
    points = [(-config.score_drop.value, config.latency_ms.value) for config in configs]
    return doublings(points, -margin, reference.latency_ms.value) / margin


def build_front(
    all_configs: Sequence[Config],
    reference: Config,
    *,
    metric: str = "accuracy",
    reference_name: str = "PyTorch eager FP32",
    exporter: Exporter | None = None,
) -> Front:
    """The front of a job's configs: of the confirmed ones as soon as there are any, else of all.

    The two kinds are never mixed: validation figures are those that the search chose by (the winner's curse).
    """
    known = {config.id: config for config in (reference, *all_configs)}
    confirmed = [config for config in known.values() if config.confirmed]
    judged = confirmed or list(known.values())
    return Front(
        configs=dominance.front(judged),
        reference=reference,
        lossless=best_lossless(judged, reference),
        all_configs=tuple(known.values()),
        metric=metric,
        reference_name=reference_name,
        exporter=exporter,
    )


def best_lossless(configs: Sequence[Config], reference: Config) -> Config | None:
    """The fastest of those with the network unchanged in FP32 on the reference's hardware, whatever engine and threads."""
    served = reference.candidate.deployment
    same = [
        config
        for config in configs
        if not config.candidate.model
        and config.candidate.deployment.precision == "fp32"
        and config.candidate.deployment.hardware == served.hardware
    ]
    return min(same, key=lambda config: config.latency_ms.value, default=None)
