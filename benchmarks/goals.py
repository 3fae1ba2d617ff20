"""What is aimed at, and for every goal that may be missed the cause, and what was tried.

A goal is a ratio of two lines of one table, measured in turn, or a number of one line. The texts stand on the page beside the
goals that a record misses.
"""

import dataclasses
import statistics
from collections.abc import Iterable

from benchmarks.measure import ratio
from benchmarks.parts.loops import BARE, FIT, LIBRARY, OURS, RECOMPILED, WARM
from benchmarks.parts.steps import CHANNELS_LAST, CNNLAB, EAGER
from benchmarks.tables import Table


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on what is measured."""

    name: str
    part: str
    case: str
    line: str
    most: float
    over: str = ""
    """Line of the same table by which it is divided; empty: the number itself."""
    of: str = "wall"
    """wall, cpu, or the head of a further column."""
    cause: str = ""
    """Why it is missed where it is, and what was tried; empty: not known."""

    def value(self, table: Table) -> float | None:
        """Returns the measured number, or None where the table has not these lines."""
        line, base = table.line(self.line), table.line(self.over) if self.over else None
        if line is None or (self.over and base is None):
            return None
        if self.of not in ("wall", "cpu"):  # an older record may not have the column
            return float(line.more[self.of]) if self.of in line.more else None
        ours = getattr(line, self.of)
        return ratio(ours, getattr(base, self.of)) if base else statistics.median(ours)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A goal and what came of it."""

    goal: Goal
    value: float

    @property
    def met(self) -> bool:
        """Whether the number is within the bound."""
        return self.value <= self.goal.most


def judged(tables: Iterable[Table]) -> list[Judged]:
    """Returns the goals that some tables measure, in the order of GOALS."""
    found = {(table.part, table.case): table for table in tables}
    pairs = [(goal, found[goal.part, goal.case]) for goal in GOALS if (goal.part, goal.case) in found]
    values = [(goal, goal.value(table)) for goal, table in pairs]
    return [Judged(goal, value) for goal, value in values if value is not None]


LENET = """On one core the CPU time is 1.1 times PyTorch's (`--threads=1`, five rounds, beside other programs), and on two
XLA:CPU keeps about 1.4 threads busy with a network of this size, PyTorch both. Of a step the gradient of the first max
pooling takes a fifth to a third (a loop over 16 images at a time, one after another), the weight gradient of the first
convolution a quarter (XLA convolves 28x28 windows for five by five numbers), products little (profile of five steps on one
core, beside other programs). Tried, as multiples of the step: four steps unrolled in one program (0.97), `lax.scan` over ten
(0.97; 5.6 to 6.5 before the gradients of convolutions had the axes that XLA:CPU wants in a loop), all convolutions as products
(0.93), giving the state away (0.91, taken), bf16 (1.5), XLA's flags for vector width, fast math and Eigen's threads (0.95 to
1.05), Eigen's convolutions for those of YNN (0.72 on a CPU without AVX-512, taken there; the part `kernels`), 512 images in
four parts (0.80 of 512 at once; the part `accumulate`). XLA's flags for oneDNN change no convolution of this jaxlib, and the
wheel of oneDNN has a C library alone, which jax.ffi cannot call without code of one's own in C++. Two forced
devices (`--fake_devices=2`), of which each computes half of the batch, take 0.8 of the step, but of twelve experiments they
slow eight down, up to 2.2 times (the part `devices`), so that nothing chooses them. They would be faster with as many threads
as cores (0.59 for 0.78 here, 0.87 for 1.18 with the autoencoder, in five rounds of both), but devices that wait for each other
hold threads, and with two or three an MLP waited until XLA ended the process: `--fake_devices` gives 16."""
AUTOENCODER = """On one core the CPU time is 0.73 of PyTorch's (`--threads=1`, five rounds, beside other programs); the
second thread helps PyTorch more. Seven tenths of a step are products already, and the transposed convolutions are one
product and shifted additions each (ops/cpu/transpose.py), so that a step is about three times faster than Flax's; the weight
gradients are loops over a few images. Tried: as for LeNet-5; `lax.scan` over ten steps gives 0.97."""
DEPTHWISE = """XLA:CPU runs a convolution in groups as a dense loop, 20 to 50 times slower than need be; here it is shifted
multiply-adds, and its weight gradient a loop over a few images (115 to about 6 ms a layer); oneDNN, which PyTorch calls, has
a kernel for it. On one core the CPU time is already 1.14 times that of PyTorch eager and 1.66 times that of channels_last
(`--threads=1`, five rounds, beside other programs): it is the work and not the second thread. Tried: the weight gradient as
one sum over the batch (31 ms for 4.2), leaving out XLA's YNN reductions (1.34 times the step), `lax.scan` over ten steps
(0.5 of the wall time of an older form, in which the weight gradient was no loop)."""
RESNET18 = """The weight gradient of 3x3 is XLA:CPU's weak pass, 1.2 to 2.2 times its forward pass, which runs at the speed of
the matrix product; and two threads make JAX 1.3 to 1.5 times faster, PyTorch 1.7 times. Tried: weight gradients from the
columns of a few images at a time (105 to 53 ms for 128 to 256 channels, taken where it is faster), all convolutions as products
(2.3 times PyTorch's CPU time), Winograd F(2, 3) in jnp (2.0 to 3.6 times XLA's time), oneDNN by XLA's flag (a product does not
compile with it), bf16 (0.9), malloc that keeps large blocks (1.0 to 1.3 times faster; the part `allocator`), convolution, batch
normalisation and ReLU with a gradient of their own (1.00 of three such layers, 32 channels at 32x32 and 128 at 16x16), Eigen's
convolutions for those of YNN (0.76 on a CPU without AVX-512, taken there)."""
LOOP = """Beside the step `fit` draws the feed, places it, and reads the statistics at every fiftieth step; on two cores it
shares them with XLA's threads. Its CPU time beside that of the bare step says how much that is."""
START = """Importing jax, flax, optax, orbax and cnnlab's own modules is 60 % of the CPU time until the first step of LeNet-5
(1.9 of 3.2 s beside other programs); the rest opens the data, traces, and reads compiled programs. Tried and taken: every
program is kept, however small (least compile time 0, least size -1), and matplotlib is imported after the first step."""
COMPILE = """The forms of ops/cpu are chunks, slices and loops where the library has one operation. Tried and taken: the
library's form where the work is not worth a loop (ResNet-56: 1.7 times the library's before)."""
HELP = """Nothing but Python, absl, one verb and the parts of cnnlab that import no jax is loaded. Tried and taken: the other
verbs are imported when they are asked for (0.77 of the time, ten runs of both in turns)."""

STEP_GOALS = {
    "lenet5": (0.90, 0.90, LENET),
    "autoencoder": (0.70, 0.60, AUTOENCODER),
    "depthwise": (0.80, 1.0, DEPTHWISE),
    "resnet18": (1.1, 1.3, RESNET18),
}
"""{network: (most of PyTorch eager, most of channels_last, why one is missed and what was tried)}."""

GOALS: tuple[Goal, ...] = (
    *(
        Goal(f"step of {net} / {base}", "steps", net, CNNLAB, most, base, cause=cause)
        for net, (eager, channels_last, cause) in STEP_GOALS.items()
        for base, most in ((EAGER, eager), (CHANNELS_LAST, channels_last))
    ),
    Goal("the loop / its bare step", "loops", "fit", FIT, 1.03, BARE, cause=LOOP),
    Goal(RECOMPILED, "loops", "fit", FIT, 0, of=RECOMPILED),
    Goal("seconds to the first step of LeNet-5, warm", "loops", "start_lenet5", WARM, 1.5, cause=START),
    Goal("seconds to the first step of ResNet-18, warm", "loops", "start_resnet18", WARM, 3.0, cause=START),
    Goal("compiling ResNet-50 / by the library's convolutions", "loops", "compile_resnet50", OURS, 1.5, LIBRARY, cause=COMPILE),
    Goal("CPU seconds of --help", "loops", "help", "--help", 0.2, of="cpu", cause=HELP),
)

REMARKS: dict[tuple[str, str], str] = {
    ("steps", "unet"): """There is no goal. In a profile of one core no operation has more than 5 % of the step: it is spread
over the convolutions of all levels, the largest being those of 16 channels at full resolution.""",
    ("steps", "ssd"): """There is no goal. In a profile of one core no operation has more than 6 %: the convolutions are small
and many, sums and differences of group norm come next, and the sort that ranks the negatives takes 5 %.""",
    ("steps", "lstm"): """There is no goal. In a profile of one core the loops over 64 characters take seven tenths, twice as
much backward as forward. A fifth of the step added up the gradient of the recurrent kernel character by character; one
product after the loop does it now (ops/recurrence.py), which brought the step from 1.19 to 1.02 of Flax's on the CPU where
it was tried.""",
    ("steps", "vae"): """There is no goal. In a profile of one core the products with the 784 pixels take 86 % of the step.""",
}
"""{(part, case): what explains its table where no goal does}; profiles of five steps beside other programs."""
