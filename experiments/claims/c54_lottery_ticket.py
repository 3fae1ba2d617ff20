"""Claim C54: the first weights of a lottery ticket train better than others under the same mask. LeNet-300-100 on MNIST.

Paper:    J. Frankle, M. Carbin, The lottery ticket hypothesis: finding sparse, trainable neural networks, 2019, arXiv
          1803.03635, section 2 and figure 4
Command:  python launch.py ablate --experiment=c54_lottery_ticket
Result:   supported at small scale; docs/claims/c54.md has the numbers.

A network of 300 and 100 ReLU units learns for 500 steps, loses its smallest weights, goes back to the weights with which it
began, learns for 500 steps again, and so on, five times, until 5 % of the weights of the hidden layers and 30 % of those of the
last one are left; then the ticket that is left learns from its first weights for 500 steps more, half an epoch of 60 images a
step. The arm that it is compared with is the same run until the last time, and begins that with the same mask and the first
weights of each layer in another order: it has the distribution of the first weights, and not their places. Hence a pair of one
seed differs in that alone.

Weights that stay were large at the start, too, so that a ticket begins with larger weights than its control. A second control
has therefore the ticket's own weights, in another order within the mask: what is left of the difference is due to places, and
not to sizes. Beside them are tickets of 20 % of the weights. The ends are compared, not the best of the training.

With seeds 100 and 101, which the study does not use, tickets of 5 % had 95.6 and 95.4 %, the first control 91.9 and 91.8 % and
the second one 91.7 and 92.0 %.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, interaction
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.tasks.prune import magnitude
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet_300_100",
    data=partial(images, dataset="tfds:mnist", batch_size=60, validation=0.0),
    optimizer=partial(adam, lr=0.0012, schedule="constant"),
    pruning=partial(
        magnitude, density=0.05, density_by_layer=("output=0.3",), rounds=5, dense=1 / 6, rewind="start", restarts=True
    ),
    duration=Duration(3000, "steps"),
)

VARY = ("pruning.density:0.05,0.05,0.05,0.2,0.2", "pruning.rewind:redraw,reorder,start,redraw,start")
"""The arms."""


def named(density: str, rewind: str) -> str:
    """Returns the name of the arm with these levels."""
    wanted = {"pruning.density": density, "pruning.rewind": rewind}
    return next(arm.name for arm in zip_levels(parse_vary(VARY)) if wanted.items() <= arm.knobs.items())


TICKET, REDRAWN, REORDERED = (named("0.05", rewind) for rewind in ("start", "redraw", "reorder"))
LARGE_TICKET, LARGE_REDRAWN = named("0.2", "start"), named("0.2", "redraw")
SMALLEST = 0.005
"""Smallest effect of interest, as a share: half a point of accuracy, 50 of the 10,000 test images."""

study = StudySpec(
    question="With 5 % of the weights: does a ticket train better from its first weights than from the same in another order?",
    claim="C54",
    vary=VARY,
    design="zip",
    seeds=10,
    metric="test/accuracy",
    smallest_effect=SMALLEST,
    verdict=every(
        contrast(
            "C54", TICKET, "better", "A ticket of 5 % trains better than the same mask with other weights", against=REDRAWN
        ),
        shown=(
            contrast("C54", TICKET, "better", "It does than with its own weights in another order", against=REORDERED),
            contrast("C54", LARGE_TICKET, "better", "So does one of 20 %", against=LARGE_REDRAWN),
            interaction(
                "C54",
                (TICKET, REDRAWN),
                (LARGE_TICKET, LARGE_REDRAWN),
                "better",
                "The first weights are worth more to the ticket of 5 %",
            ),
        ),
        requires=(at_least("C54", REDRAWN, 0.85, "The network with other weights learns, too"),),
        scope="LeNet-300-100 on MNIST, five rounds of 500 steps of Adam, magnitude by layer, other weights by permutation",
    ),
    card=Card(
        published="Frankle and Carbin (2019, section 2), after 50,000 steps for each round: tickets with weights that are "
        "drawn anew learn more slowly than the whole network and lose accuracy after little pruning; those with their first "
        "weights keep it down to a few per cent of the weights.",
        would_change="Ten seeds after which tickets of 5 % are not better, or better by less than half a point.",
        deviations="500 steps for each round; the control permutes the first weights of each layer, which leaves their "
        "distribution as it is, in place of new draws.",
        quick="--seeds=1",
        figure=Figure(),
    ),
)
