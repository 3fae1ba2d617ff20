"""Recipes of variational autoencoders, which experiments fill in with defaults of their own."""

from functools import partial
from typing import Annotated

from cnnlab.core import Experiment
from cnnlab.data.images import UnitImages, images
from cnnlab.data.normalize import no_normalization
from cnnlab.models import VAES, VQ_VAES
from cnnlab.ops.elbo import BOUNDS
from cnnlab.ops.likelihoods import LIKELIHOODS
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.recipes.evaluators import EVALUATORS
from cnnlab.tasks.variational import Binarize, CodesFrom, variational
from cnnlab.tasks.vq_vae import vq_vae_task
from cnnlab.values import Choice, Duration, Fraction, NonNegative, Range


def variational_autoencoder(
    *,
    model: Choice[VAES] = "mlp",
    data: UnitImages = partial(images, batch_size=100),
    likelihood: Choice[LIKELIHOODS] = "bernoulli",
    binarize: Binarize = "none",
    bound: Choice[BOUNDS] = "elbo",
    conditional: bool = False,
    log_p_samples: Annotated[int, Range(0)] = 100,
    codes_from: CodesFrom = "prior",
    judge: Choice[EVALUATORS] = "pixels",
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(50, "epochs"),
    average_decay: Fraction = 0.0,
) -> Experiment:
    """A variational autoencoder: one player, who raises a bound on the log-probability of images.

    Args:
        model: networks of encoder and decoder.
        data: images, and how they become batches; their pixels lie in [0, 1].
        likelihood: probability of an image, given its code.
        binarize: none takes grey levels as they are; static draws each image once as black and white pixels, dynamic afresh at
            every step.
        bound: lower bound on the log-probability that training raises.
        conditional: whether encoder and decoder see the label, so that images of a class can be drawn.
        log_p_samples: codes drawn for each test image to estimate log p at the end of the run; 0: no estimate.
        codes_from: distribution from which the codes of drawn images come: the prior, or a Gaussian fitted to training codes.
        judge: evaluator of the images drawn at the end: pixels, or run:FOLDER, a classifier that was trained here.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average_decay: decay of the moving average of the parameters that is evaluated; 0: no average.
    """
    dataset = data(normalize=no_normalization)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    p = likelihood()
    network = model(image_shape=dataset.image_shape, outputs=p.outputs, classes=dataset.classes if conditional else 0)
    task = variational(
        network,
        likelihood=p,
        bound=bound(),
        binarize=binarize,
        steps=steps,
        judge=judge(data=dataset),
        codes_from=codes_from,
        log_p_samples=log_p_samples,
    )
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average_decay)


def quantized_autoencoder(
    *,
    model: Choice[VQ_VAES] = "vq_vae",
    data: UnitImages = partial(images, batch_size=100),
    likelihood: Choice[LIKELIHOODS] = "bernoulli",
    commitment: NonNegative = 0.25,
    codebook_decay: Fraction = 0.99,
    restart: NonNegative = 1.0,
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(20, "epochs"),
    average_decay: Fraction = 0.0,
) -> Experiment:
    """A vector-quantised autoencoder: one player, and a codebook that follows the encoder.

    Args:
        model: networks of encoder and decoder.
        data: images, and how they become batches; their pixels lie in [0, 1].
        likelihood: probability of an image, given its codes.
        commitment: weight of the squared distance from the encoder's vectors to the entries that replace them.
        codebook_decay: decay of the moving averages that make up the codebook.
        restart: number of vectors of a batch; an entry that fewer choose, on average, is moved to one of them; 0: never.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average_decay: decay of the moving average of the parameters that is evaluated; 0: no average.
    """
    dataset = data(normalize=no_normalization)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    p = likelihood()
    network = model(image_shape=dataset.image_shape, outputs=p.outputs)
    task = vq_vae_task(network, likelihood=p, commitment=commitment, decay=codebook_decay, restart=restart)
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average_decay)
