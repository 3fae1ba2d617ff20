"""Claim C40, what is exact: accuracy moves with the shares of the classes, balanced accuracy does not. HAM10000's counts.

Paper:    K. Brodersen, C. S. Ong, K. Stephan, J. Buhmann, The balanced accuracy and its posterior distribution, 2010; counts:
          P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, 2018, arXiv 1803.10417, Table 2
Command:  python launch.py measure --experiment=c40_prevalence
Result:   exact; docs/claims/c40.md has the numbers.

Of the 10,015 images of HAM10000 6,705 are nevi. A classifier that always answers "nevus" is right in 66.9 % of them, its
balanced accuracy is 1/7 and its area under the ROC curve 1/2, those of one that guesses.

A second classifier answers by random rates: every seed draws how often it answers what for each of the seven classes, nevi
rightly in 90 % and the others in 50 to 80 %. It is applied to the counts of HAM10000 and to equally many images of each class,
in whole numbers of answers, so that both test sets have the same recall of each class: the accuracy differs, the balanced
accuracy is the same. Last, of two such classifiers the one that is better with nevi has the higher accuracy on HAM10000 and
the other the higher balanced accuracy: the order depends on the metric.

All numbers are those of cnnlab.ops.metrics_of_counts and metrics_of_scores, which `--metrics` uses.
"""

import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import metrics_of_counts as of_counts
from cnnlab.ops import metrics_of_scores as of_scores

COUNTS = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
"""Images of each diagnosis in HAM10000, the training images of ISIC 2018 task 3."""
CLASSES = len(COUNTS)
TOTAL = sum(COUNTS.values())
LARGEST = max(COUNTS.values())
F1 = 2 * LARGEST / (TOTAL + LARGEST) / CLASSES
"""F1 of the largest class when it is always the answer, over all classes."""
MULTIPLE = 1000
"""Answers that a row of rates has for each image of HAM10000, so that every rate is a whole number of them."""
SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
"""Shares of nevi of the curves."""


def largest_class() -> dict[str, dict[str, float]]:
    """Returns the numbers of the classifier that always answers with the largest class."""
    labels = np.repeat(np.arange(CLASSES), list(COUNTS.values()))
    answers = np.zeros_like(labels)
    counts = of_counts.counts_of_classes(labels, answers, CLASSES)
    areas = [of_scores.roc_auc(labels == each, np.zeros(TOTAL)) for each in range(CLASSES)]
    return {
        "accuracy": {"always nevus": float(np.mean(labels == answers))},
        "balanced_accuracy": {"always nevus": of_counts.balanced_accuracy(counts)},
        "auc": {"always nevus": float(np.mean(areas))},
        "f1": {"always nevus": of_counts.macro(of_counts.f1(counts))},
    }


def drawn_rates(draw: np.random.Generator, recall: np.ndarray) -> np.ndarray:
    """Returns how many of MULTIPLE answers for an image of a class (row) are each class (column), i64 [K, K]."""
    rates = np.zeros((CLASSES, CLASSES), np.int64)
    for each in range(CLASSES):
        right = round(MULTIPLE * float(recall[each]))
        others = draw.multinomial(MULTIPLE - right, np.full(CLASSES - 1, 1 / (CLASSES - 1)))
        rates[each] = np.insert(others, each, right)
    return rates


def counts_at(rates: np.ndarray, images: np.ndarray) -> of_counts.Counts:
    """Returns the counts of a classifier's answers to images i64 [K] of each class, MULTIPLE for each image."""
    answers = rates * images[:, None]  # [K, K] by [K, 1]: label, answer
    return of_counts.Counts(np.diagonal(answers), answers.sum(axis=0), answers.sum(axis=1))


def accuracy(counts: of_counts.Counts) -> float:
    """Returns the share of all answers that are right."""
    return float(counts.right.sum() / counts.occurring.sum())


def measure(seed: int) -> Measured:
    """Returns accuracy and balanced accuracy of the classifiers of one draw, on both shares of the classes."""
    draw = np.random.default_rng(seed)
    images = {"HAM10000": np.array(list(COUNTS.values())), "equal shares": np.full(CLASSES, LARGEST)}
    rare = draw.uniform(0.55, 0.7, CLASSES - 1)
    recalls = {
        "drawn": np.insert(draw.uniform(0.5, 0.8, CLASSES - 1), 0, 0.9),
        "good with nevi": np.insert(rare, 0, 0.97),
        "good with the rare": np.insert(rare + 0.15, 0, 0.8),
    }
    found = largest_class()
    rates = {name: drawn_rates(draw, recall) for name, recall in recalls.items()}
    for name, answers in rates.items():
        for where, numbers in images.items():
            counts = counts_at(answers, numbers)
            found["accuracy"][f"{name}, {where}"] = accuracy(counts)
            found["balanced_accuracy"][f"{name}, {where}"] = of_counts.balanced_accuracy(counts)
    moved = {name: _moved(found[name], "drawn") for name in ("accuracy", "balanced_accuracy")}
    lead = {
        "accuracy, nevi": _ahead(found["accuracy"], "good with nevi", "good with the rare"),
        "balanced accuracy, the rare": _ahead(found["balanced_accuracy"], "good with the rare", "good with nevi"),
    }
    lines = {name: recall_lines(answers) for name, answers in rates.items() if name != "drawn"}
    curves = {f"{metric}, {name}": points for name, line in lines.items() for metric, points in line.items()}
    return Measured({**found, "moved": moved, "lead": lead}, curves)


def _moved(found: dict[str, float], name: str) -> float:
    """Returns how far a number is from that at equal shares, in size."""
    return abs(found[f"{name}, HAM10000"] - found[f"{name}, equal shares"])


def _ahead(found: dict[str, float], name: str, other: str) -> float:
    """Returns by how much a classifier is ahead of another on HAM10000."""
    return found[f"{name}, HAM10000"] - found[f"{other}, HAM10000"]


def recall_lines(rates: np.ndarray) -> dict[str, tuple[tuple[float, float], ...]]:
    """Returns {metric: its points by the share of nevi}, the other classes having equal shares."""
    lines: dict[str, list[tuple[float, float]]] = {"accuracy": [], "balanced accuracy": []}
    for share in SHARES:
        nevi = round(share * LARGEST)
        images = np.array([nevi * (CLASSES - 1), *[LARGEST - nevi] * (CLASSES - 1)])  # nevi : others = share : 1 − share
        counts = counts_at(rates, images)
        lines["accuracy"].append((share, accuracy(counts)))
        lines["balanced accuracy"].append((share, of_counts.balanced_accuracy(counts)))
    return {name: tuple(points) for name, points in lines.items()}


measurement = Measurement(
    claim="C40",
    question="How do accuracy and balanced accuracy follow from the recall of each class and the shares of the classes?",
    measure=measure,
    metrics=(
        Metric("accuracy", SHARE, higher_is_better=True),
        Metric("balanced_accuracy", SHARE, higher_is_better=True),
        Metric("auc", SHARE, higher_is_better=True),
        Metric("f1", SHARE, higher_is_better=True),
        Metric("moved", SHARE, higher_is_better=False),
        Metric("lead", SHARE),
    ),
    seeds=10,
    verdict=every(
        identity("C40", "always nevus", LARGEST / TOTAL, 1e-12, "Who always answers with nevus is right in 67 % of HAM10000"),
        on(
            "balanced_accuracy",
            identity("C40", "always nevus", 1 / CLASSES, 1e-12, "Its balanced accuracy is that of guessing"),
        ),
        on("auc", identity("C40", "always nevus", 0.5, 1e-12, "Its area under the ROC curve is that of guessing")),
        on("moved", at_least("C40", "accuracy", 0.02, "With other shares of the classes a classifier's accuracy is another")),
        on("moved", identity("C40", "balanced_accuracy", 0.0, 1e-12, "Its balanced accuracy stays")),
        on(
            "lead",
            at_least("C40", "accuracy, nevi", 0.02, "Of two classifiers the one that is good with nevi is more accurate"),
        ),
        on(
            "lead",
            at_least(
                "C40", "balanced accuracy, the rare", 0.02, "By balanced accuracy the one that is good with the rare is ahead"
            ),
        ),
        shown=(on("f1", identity("C40", "always nevus", F1, 1e-12, "Its F1, a mean over the classes, is 0.115")),),
        scope="the counts of HAM10000 and classifiers that are given by their rates of confusion; nothing is trained",
    ),
    card=Card(
        published="Tschandl et al. (2018) count 6,705 nevi among 10,015 images; the challenge ranks by balanced accuracy "
        "(Codella et al. 2019). Brodersen et al. (2010) show that a constant answer has the balanced accuracy of chance.",
        would_change="A classifier whose balanced accuracy differs between two test sets on which every class has the same "
        "recall.",
        figure=Figure(
            title="Accuracy follows the share of the largest class, balanced accuracy does not",
            x="share of nevi among the test images",
            y="share that is right",
        ),
        deviations="Two of the classifiers have recalls that were chosen so that the order changes; that one changes for "
        "trained networks is another test, c40_skin_lesions.",
    ),
)
