"""Training after a cut: the weights learn to do without what was removed.

The original network is the teacher (Hinton et al. 2015): its features and outputs say more about a sample than the label does, and
they cost nothing, because they were computed once. A recovery is short, so what counts is that it starts right (normalization
statistics of the new structure) and ends at a learning rate of zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class Recovery(Technique):
    """Distillation from the original network together with the task's own loss."""

    name = "recovery"
    version = 2
    needs_training = True
    needs = ("train",)
    parameters = (
        Parameter(
            "epochs", 1.0, low=0.001, high=1000.0, about="Passes over the training data; may be a fraction of one."
        ),
        Parameter("offset", 0.0, low=0.0, high=1000.0, about="Epochs of the data order that earlier recoveries used."),
        Parameter(
            "target",
            "features",
            choices=("features", "outputs"),
            about="What of the original is learnt: its features, where the network has them in their shape, or its outputs alone.",
        ),
        Parameter("rate", 0.1, low=1e-6, high=10.0, about="The peak of the learning rate."),
        Parameter(
            "distillation", 0.7, low=0.0, high=1.0, about="The weight of the teacher's loss; the rest is the task's."
        ),
        Parameter("temperature", 3.0, low=0.1, high=100.0, about="Softens the teacher's probabilities."),
        Parameter("batch", 32, low=1, high=65536, about="Samples a step."),
        Parameter("clip", 1.0, low=0.0, high=1e6, about="The longest that a gradient may be; 0 is no limit."),
        Parameter("optimizer", "sgd", choices=("sgd", "adamw"), about="SGD with Nesterov momentum 0.9, or AdamW."),
        Parameter(
            "weight_decay", 5e-4, low=0.0, high=1.0, about="Of weight matrices; biases and normalizations have none."
        ),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`.

        Facts: score (on validation, in PyTorch), loss (mean of the last tenth), target, samples, seconds_per_epoch, steps, threads.
        """
        values = checked_params(self, params)
        from autoopt.workers.techniques._training import Recipe, recover

        return recover(model, context, Recipe(**values))  # type: ignore[arg-type]  # checked against the declarations above
