"""What is concluded from the numbers of a check: pure rules, whose findings hold the numbers that led to them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from cnnlab.text import listed

State = Literal["fine", "note", "wrong", "not checked"]

LARGEST_INPUT = 8.0
"""Root mean square above which inputs count as not normalised: pixels from 0 to 255 have some 130, standardised ones 1."""
FEW_IN_BATCH = 4
"""Examples below which batch statistics are too noisy for training to lead far."""
START_NOTE, START_WRONG = 2.0, 5.0
"""Loss at the start, as a multiple of that of equal outputs, from which it is noted and from which it is wrong."""
START_LOW = 0.7
"""The same multiple below which an untrained network knows the labels, or the loss is not the one that is meant."""
DEAD_NOTE, DEAD_WRONG = 0.25, 0.5
"""Share of the units of a layer that get no gradient from any example, from which it is noted and from which it is wrong."""
CONSTANT = 1e-6
"""Standard deviation over examples, relative to the root mean square, below which a layer's output is constant."""
LEARNT = 0.95
"""Share of its starting value to which the loss must fall for a rate to count as learning."""
BETTER = 1.5
"""Multiple of the decrease of the loss by which another rate must be ahead to be suggested."""
MEMORISED = 0.1
"""Share of its starting value to which the loss on a few examples must fall."""
GRADIENT_FINE, GRADIENT_WRONG = 1e-5, 1e-2
"""Relative difference of a gradient from finite differences in f64 up to which it is the same, and from which it is another."""
SURE = 3.0
"""Standard deviations above chance from which an accuracy counts as better."""
ENOUGH_LABELS = 100
"""Examples from which accuracies are compared with chance."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    state: State
    sentence: str


@dataclasses.dataclass(frozen=True)
class Output:
    """What a batch of examples leaves in a layer."""

    name: str
    rms: float
    """Root mean square of its outputs."""
    spread: float
    """Standard deviation over examples, root mean square over the outputs."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A layer's kernel and its gradient."""

    name: str
    """Name of the layer."""
    rms: float
    """Root mean square of its weights."""
    gradient: float
    """Root mean square of their gradient."""
    dead: float
    """Share of its units that get no gradient from any example."""
    copies: bool
    """Whether all its units, of which there are several, have the same weights and the same gradient."""


def inputs(mean: float, rms: float, spread: float) -> Finding:
    """Concludes from the mean, root mean square and standard deviation over examples of normalised inputs."""
    name, numbers = "inputs", f"mean {mean:.3g}, root mean square {rms:.3g}, standard deviation over examples {spread:.3g}"
    if not all(map(math.isfinite, (mean, rms, spread))):
        return Finding(name, "wrong", f"they are not finite: {numbers}. `inspect --dataset=…` shows the data set.")
    if spread <= CONSTANT * max(rms, 1e-30):
        return Finding(name, "wrong", f"all examples are the same: {numbers}.")
    if rms > LARGEST_INPUT:
        return Finding(
            name, "wrong", f"they are not normalised: {numbers}. --normalize=standard brings them to mean 0 and deviation 1."
        )
    return Finding(name, "fine", numbers)


def batch_statistics(examples: int, *, is_used: bool) -> Finding | None:
    """Concludes from the number of examples over which batch normalisation takes its statistics; None where there is none."""
    name = "batch statistics"
    if not is_used:
        return None
    if examples == 1:
        return Finding(
            name,
            "wrong",
            "batch normalisation gets a batch of one example, whose deviation from its own mean is 0. Give a larger "
            "--batch_size, or --norm=group.",
        )
    if examples < FEW_IN_BATCH:
        return Finding(name, "note", f"they are taken over {examples} examples and are noisy. --norm=group does without them.")
    return Finding(name, "fine", f"they are taken over {examples} examples")


def classes(counts: Sequence[int], names: Sequence[str]) -> Finding:
    """Concludes from the number of examples of every class among those that were read."""
    name, total = "classes", sum(counts)
    missing = [label for label, count in zip(names, counts, strict=True) if not count]
    if missing and total >= 20 * len(counts):
        return Finding(
            name,
            "wrong",
            f"{len(missing)} of {len(counts)} classes have no example among {total:,} for training: {listed(missing)}. "
            "The network has an output for each of them; is the number of classes right?",
        )
    largest = max(counts) / total
    if len(counts) > 1 and largest > max(0.5, 1.5 / len(counts)):
        return Finding(
            name,
            "note",
            f"{largest:.0%} of {total:,} examples are of class {names[list(counts).index(max(counts))]}; accuracy above that "
            "share is what counts",
        )
    return Finding(name, "fine", f"{len(counts)} classes, the rarest with {min(counts) / total:.1%} of {total:,} examples")


def start(loss: float, expected: float | None, *, is_imported: bool = False) -> Finding:
    """Concludes from the loss of the untrained network and that of equal outputs, which is ln K for cross-entropy."""
    name = "loss at the start"
    if not math.isfinite(loss):
        return Finding(name, "wrong", f"it is {loss}. Look at the inputs and at the scale of the initialiser.")
    if expected is None or expected <= 0:
        return Finding(name, "not checked", f"{loss:.4g}; nothing is known that it should be")
    numbers = f"{loss:.4g}, and {expected:.4g} if the outputs were equal"
    ratio = loss / expected
    if ratio < START_LOW and not is_imported:
        return Finding(name, "wrong", f"{numbers}: an untrained network cannot know the labels. Is the label among the inputs?")
    if ratio > START_WRONG:
        return Finding(
            name, "wrong", f"{numbers}: the outputs are large before training. Look at the inputs and the initialiser."
        )
    if ratio > START_NOTE:
        return Finding(name, "note", f"{numbers}: the first steps unlearn it; a smaller last layer starts lower")
    return Finding(name, "fine", numbers)


def probabilities(smallest: float, sums: Sequence[float], loss: str) -> Finding | None:
    """Concludes from a network's outputs whether they are probabilities already; None where they are not.

    Args:
        smallest: smallest output of all examples.
        sums: sum of the outputs of each example.
        loss: name of the loss.
    """
    if smallest < 0 or any(abs(total - 1) > 1e-3 for total in sums):
        return None
    return Finding(
        "outputs",
        "wrong",
        f"they are probabilities (none is negative, each example's add up to 1), and {loss} applies a softmax to them again. "
        "Let the network return logits.",
    )


def units(kernels: Sequence[Kernel], when: str) -> list[Finding]:
    """Concludes from the kernels whether units are dead or copies of each other."""
    found = []
    copies = [kernel.name for kernel in kernels if kernel.copies]
    if copies:
        found.append(
            Finding(
                "symmetry",
                "wrong",
                f"all units of {listed(copies)} have the same weights and the same gradient {when}, and will stay copies. "
                "Choose an initialiser that draws at random.",
            )
        )
    dead = sorted(((kernel.dead, kernel.name) for kernel in kernels if kernel.dead), reverse=True)
    if dead and dead[0][0] >= DEAD_NOTE:
        share, name = dead[0]
        several = f" (and {len(dead) - 1} more layers have such units)" if len(dead) > 1 else ""
        found.append(
            Finding(
                "dead units",
                "wrong" if share >= DEAD_WRONG else "note",
                f"{share:.0%} of the units of {name} get no gradient from any example {when}{several}. A lower rate, "
                "--activation=leaky_relu or another initialiser keeps them alive.",
            )
        )
    elif not dead or dead[0][0] < DEAD_NOTE:
        most = f"; at most {dead[0][0]:.1%} get none" if dead else ""
        found.append(Finding("dead units", "fine", f"the units of all layers get a gradient {when}{most}"))
    return found


def detached(paths: Sequence[str], total: int) -> Finding:
    """Concludes from the parameters that get a gradient of exactly 0, at the start and after the first steps."""
    name = "gradient flow"
    if not paths:
        return Finding(name, "fine", f"all {total} arrays of parameters get a gradient")
    return Finding(
        name,
        "wrong",
        f"{len(paths)} of {total} arrays of parameters get no gradient, at the start and after the first steps: "
        f"{listed(paths)}. Are they used, and is the gradient stopped on the way?",
    )


def features(layers: Sequence[Output]) -> Finding:
    """Concludes from the outputs of the layers whether they depend on the example."""
    name = "features"
    constant = [layer.name for layer in layers if layer.spread <= CONSTANT * layer.rms or layer.rms == 0]
    if constant:
        return Finding(
            name, "wrong", f"{listed(constant)} gives the same output for every example, so that nothing after it can learn."
        )
    if not layers:
        return Finding(name, "not checked", "no layer is a Linen module")
    least = min(layers, key=lambda layer: layer.spread / layer.rms)
    return Finding(name, "fine", f"they differ by example in all {len(layers)} layers, least in {least.name}")


def rates(own: float, ends: Mapping[float, float], begin: float, steps: int) -> tuple[Finding, float]:
    """Concludes from the loss after a few steps at several learning rates; returns the suggested rate, too.

    Args:
        own: the experiment's rate.
        ends: {rate: loss after the steps}, NaN or infinite where training diverged.
        begin: loss before the first step.
        steps: number of steps.
    """
    name = "learning rate"
    finite = {rate: loss for rate, loss in ends.items() if math.isfinite(loss)}
    best = min(finite, key=lambda rate: finite[rate], default=own)
    mine = ends[own]
    shown = f"loss {begin:.3g} → {mine:.3g} in {steps} steps at {own:g}"
    if not finite or finite[best] > LEARNT * begin:
        return Finding(name, "wrong", f"{shown}, and no rate from {min(ends):g} to {max(ends):g} lowers it in that time."), own
    there = f"→ {finite[best]:.3g} at {best:g}"
    if best != own and not mine <= LEARNT * begin:
        high = "too high" if best < own else "too low to learn anything in that time"
        return Finding(name, "wrong", f"{shown}, {there}: it is {high}. Try --lr={best:g}."), best
    if best != own and begin - finite[best] > BETTER * (begin - mine):
        return Finding(name, "note", f"{shown}, {there}, which learns faster at first"), best
    return Finding(name, "fine", f"{shown}; {len(ends)} rates from {min(ends):g} to {max(ends):g} were tried"), best


def memory(begin: float, end: float, accuracy: float | None, examples: int, steps: int) -> Finding:
    """Concludes from training on a few examples alone, without augmentation and regularisation.

    Args:
        begin: loss before.
        end: loss after.
        accuracy: share of them that is classified rightly after; None: it is no classification.
        examples: number of examples.
        steps: number of steps.
    """
    name = "memorising a few"
    numbers = f"{examples} examples, {steps} steps: loss {begin:.3g} → {end:.3g}"
    numbers += "" if accuracy is None else f", {accuracy:.0%} right"
    if math.isfinite(end) and end <= MEMORISED * begin and accuracy in (None, 1.0):
        return Finding(name, "fine", numbers)
    if math.isfinite(end) and (accuracy == 1.0 or end <= 0.5 * begin):
        return Finding(name, "note", f"{numbers}. It gets there slowly; a longer test or another rate would show more.")
    return Finding(
        name, "wrong", f"{numbers}. A network that cannot memorise a few examples cannot learn many: look for a fault in it."
    )


def labels(agree: float, chance: float, compared: int, held_out: tuple[float, float, int] | None) -> Finding:
    """Concludes whether labels belong to the images, from nearest neighbours and from examples held out from a short training.

    Args:
        agree: share of examples whose nearest neighbour by pixels has the same label.
        chance: that share for labels in another order.
        compared: number of examples.
        held_out: (accuracy after the short training, share of the largest class, number of examples); None: none are.
    """
    name = "labels and images"
    if compared < ENOUGH_LABELS or chance > 0.95:
        return Finding(name, "not checked", f"{compared} examples of the classes are too few to say")
    numbers = f"nearest neighbours agree in {agree:.0%} (chance {chance:.0%}, {compared} examples)"
    related = is_above(agree, chance, compared)
    if held_out is not None:
        accuracy, largest, count = held_out
        numbers += f"; {accuracy:.0%} of {count} held-out examples are right after the training (largest class {largest:.0%})"
        related = related or (count >= ENOUGH_LABELS and is_above(accuracy, largest, count))
    if related:
        return Finding(name, "fine", numbers)
    return Finding(
        name, "wrong", f"{numbers}: the labels do not go with the images. Are both in the same order, and are none shuffled?"
    )


def is_above(share: float, chance: float, count: int) -> bool:
    """Returns whether a share of `count` lies SURE standard deviations above chance."""
    return share > chance + SURE * math.sqrt(max(chance * (1 - chance), 1e-9) / count)


def derivative(error: float, *, is_exact: bool) -> Finding:
    """Concludes from the relative difference of gradients from finite differences.

    Args:
        error: the smallest difference over the step widths, the largest over the directions.
        is_exact: whether the task has no estimator in place of a gradient, such as the straight-through one.
    """
    name, numbers = "gradient check", f"differs from finite differences in f64 by {error:.1e} of its size"
    if error <= GRADIENT_FINE:
        return Finding(name, "fine", numbers)
    if error < GRADIENT_WRONG:
        return Finding(name, "note", f"{numbers}, more than rounding: kinks lie close by, or a part computes in f32")
    if not is_exact:
        return Finding(name, "note", f"{numbers}. A straight-through estimator does that on purpose; anything else is a fault.")
    return Finding(
        name, "wrong", f"{numbers}: it is the gradient of something else. Look for stop_gradient and own derivatives."
    )


def verdict(found: Sequence[Finding]) -> str:
    """Returns what all findings come to, in a line."""
    wrong = [finding.name for finding in found if finding.state == "wrong"]
    notes = [finding.name for finding in found if finding.state == "note"]
    checked = sum(finding.state != "not checked" for finding in found)
    if wrong:
        return f"{len(wrong)} of {checked} checks found a fault: {listed(wrong, len(wrong))}"
    return f"{checked} checks found no fault" + (f"; worth a look: {listed(notes, len(notes))}" if notes else "")
