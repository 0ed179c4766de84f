"""The nouns that travel: frozen dataclasses that turn into JSON and back without loss."""

from autoopt.records.candidate import Candidate, Deployment, Params, Step
from autoopt.records.codec import canonical_json, digest, from_json, to_json
from autoopt.records.environment import Environment
from autoopt.records.measurement import Effective, Estimate, Fidelity, Latency, Measurement, RatePoint, Served
from autoopt.records.outcome import Eliminated, Failed, Measured, Outcome, StageRun, outcome_from_json, outcome_to_json
from autoopt.records.signature import Signature, TensorSpec

__all__ = [
    "Candidate",
    "Deployment",
    "Effective",
    "Eliminated",
    "Environment",
    "Estimate",
    "Failed",
    "Fidelity",
    "Latency",
    "Measured",
    "Measurement",
    "Outcome",
    "Params",
    "RatePoint",
    "Served",
    "Signature",
    "StageRun",
    "Step",
    "TensorSpec",
    "canonical_json",
    "digest",
    "from_json",
    "outcome_from_json",
    "outcome_to_json",
    "to_json",
]
