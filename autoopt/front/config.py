"""A config: a candidate that was measured and can be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoopt.records import Candidate, Estimate, Measurement


@dataclass(frozen=True)
class Config:
    """A measured candidate, judged on the validation split while searching and on the test split once confirmed."""

    candidate: Candidate
    validation: Measurement
    test: Measurement | None
    artifact_key: str
    """The store's key of the built artifact."""
    number: int
    """The candidate's place in the order of the search, from 0."""
    smaller: Mapping[str, str] = field(default_factory=dict)
    """Keys of the artifacts for smaller batches, by their size."""

    @property
    def judged(self) -> Measurement:
        """What the config is judged by: the test measurement once there is one."""
        return self.validation if self.test is None else self.test

    @property
    def confirmed(self) -> bool:
        """Whether it was measured afresh on the test split."""
        return self.test is not None

    @property
    def id(self) -> str:
        """The candidate's: 12 hexadecimal digits."""
        return self.candidate.id

    @property
    def latency_ms(self) -> Estimate:
        """Milliseconds per sample, comparable within a job."""
        return self.judged.latency_ms

    @property
    def rate(self) -> Estimate | None:
        """Of a server: requests a second under the bound; None where it was not measured under load."""
        served = self.judged.served or self.validation.served
        return None if served is None else served.rate

    @property
    def speedup(self) -> Estimate:
        """The reference's time per sample divided by this config's."""
        return self.judged.speedup

    @property
    def score(self) -> Estimate:
        """The task's metric; higher is better."""
        return self.judged.score

    @property
    def score_drop(self) -> Estimate:
        """The reference's score minus this config's, on the same samples."""
        return self.judged.score_drop

    @property
    def size_mb(self) -> float:
        """The artifact's size in units of 1,000,000 bytes."""
        return self.judged.size_bytes / 1e6

    @property
    def split(self) -> str:
        """The split that it is judged on: "validation" or "test"."""
        return self.judged.split

    def describe(self) -> str:
        """One line for people."""
        return self.candidate.describe()
