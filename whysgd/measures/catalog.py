"""The measures that every run gets, and what each reports; the workflow reads this, so it imports no library."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One number of a measure.

    Attributes:
        label: for tables and figures.
        unit: empty if it has none.
        flatter: whether a "lower" or a "higher" value is what the papers call a flatter, or a quieter, minimum; None
            for accuracies, losses and their gaps, which the others are compared with.
    """

    label: str
    unit: str
    flatter: str | None = None


# A measure is a rule; its quantities are the keys of its JSON. `whysgd.measures.<measure>` says how each is defined.
MEASURES = {
    "accuracy_gap": {
        "train_accuracy": Quantity("training accuracy", "%"),
        "test_accuracy": Quantity("test accuracy", "%"),
        "accuracy_gap": Quantity("accuracy gap", "points"),
        "train_loss": Quantity("training loss", "nats"),
        "test_loss": Quantity("test loss", "nats"),
        "loss_gap": Quantity("loss gap", "nats"),
    },
    "keskar": {"keskar_sharpness": Quantity("Keskar sharpness", "%", "lower")},
    "flatness": {"flatness": Quantity("flatness", "filter norms", "higher")},
    "hessian": {
        "hessian_eigenvalue_1": Quantity("largest Hessian eigenvalue", "nats", "lower"),
        "hessian_eigenvalue_2": Quantity("second Hessian eigenvalue", "nats", "lower"),
        "hessian_trace": Quantity("Hessian trace", "nats", "lower"),
    },
    "gradient_noise": {
        "gradient_norm2": Quantity("squared gradient norm", "nats²", "lower"),
        "micro_batch_gradient_norm2": Quantity("squared micro-batch gradient norm", "nats²", "lower"),
        "gradient_covariance_trace": Quantity("trace of the gradient covariance", "nats²", "lower"),
        "gradient_noise_scale": Quantity("gradient noise scale", "images"),
        "gradient_signal_to_noise": Quantity("gradient signal to noise", "", None),
    },
    "fisher": {"fisher_trace": Quantity("Fisher trace", "nats²", "lower")},
    "tail_index": {
        "tail_index": Quantity("tail index of gradient noise", ""),
        "tail_index_active": Quantity("tail index, active parameters", ""),
        "inactive_parameters": Quantity("inactive parameters", "%"),
    },
}
QUANTITIES = {name: quantity for measure in MEASURES.values() for name, quantity in measure.items()}
# Loss landscapes: where their points lie, and the columns of their files.
LANDSCAPES = ("line", "plane")
LANDSCAPE_COLUMNS = (
    "paper", "run", "seed", "kind", "alpha", "beta", "loss", "accuracy", "penalty", "full_loss",
)  # fmt: skip
