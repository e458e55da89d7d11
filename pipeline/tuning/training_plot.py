"""A plot of the training history as a small SVG, drawn without a display."""

from __future__ import annotations

import io

from lakevec.pipeline.tuning.training import TrainingResult


def draw_training(trained: TrainingResult) -> bytes:
    """Draw loss and fidelity over the epochs; equal histories give equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = range(1, len(trained.epochs) + 1)
    correlations = [epoch.fidelity.correlation for epoch in trained.epochs]
    left.plot(numbers, [epoch.loss for epoch in trained.epochs], marker="o")
    left.set(title="loss of training, tokens included", xlabel="epoch")
    right.plot([0, *numbers], [trained.start.correlation, *correlations], marker="o")
    right.axvline(trained.best, color="gray", linestyle=":")
    right.set(title="fidelity on held-out texts", xlabel="epoch")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    # By default matplotlib writes random ids and the date into the SVG.
    with mpl.rc_context({"svg.hashsalt": "lakevec"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
