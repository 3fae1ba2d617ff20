"""Recipes of variational autoencoders, which experiments fill in with defaults of their own."""

from functools import partial
from typing import Annotated

from cnnlab.core import Experiment
from cnnlab.data.images import UnitImages, images, require_labels
from cnnlab.data.normalize import no_normalization
from cnnlab.models import VAES, VQ_VAES
from cnnlab.ops.averaging import AVERAGES, ema
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
    average: Choice[AVERAGES] = ema,
) -> Experiment:
    """A variational autoencoder: one player, which maximises a lower bound on the log-probability of images.

    Args:
        model: networks of encoder and decoder.
        data: images, and how they become batches; their pixels lie in [0, 1].
        likelihood: distribution of an image, given its code.
        binarize: how grey levels become black and white: none keeps them; static samples the pixels of each image once, dynamic
            samples them again at every step.
        bound: lower bound on the log-probability that training maximises.
        conditional: whether encoder and decoder also take the label, so that images of a class can be generated.
        log_p_samples: number of codes sampled for each test image to estimate log p at the end of the run; 0: no estimate.
        codes_from: distribution of the codes of generated images: the prior, a Gaussian fitted to the training codes, or a box
            around these.
        judge: how generated images are evaluated at the end: by their pixels, or by the features of a classifier, run:FOLDER.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training, which is evaluated in their place; ema with average_decay=0: no
            average.
    """
    dataset = data(normalize=no_normalization)
    if conditional:
        require_labels(dataset, "--conditional")
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    p = likelihood()
    network = model(image_shape=dataset.image_shape, outputs=p.outputs, classes=dataset.classes if conditional else 0)
    task = variational(
        network,
        likelihood=p,
        bound=bound(),
        binarize=binarize,
        steps=steps,
        evaluator=judge(data=dataset),
        codes_from=codes_from,
        log_p_samples=log_p_samples,
    )
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average(steps))


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
    average: Choice[AVERAGES] = ema,
) -> Experiment:
    """A vector-quantised autoencoder: one player, and a codebook of moving averages of the encoder's outputs.

    Args:
        model: networks of encoder and decoder.
        data: images, and how they become batches; their pixels lie in [0, 1].
        likelihood: distribution of an image, given its codes.
        commitment: weight of the commitment loss, the squared distance from the encoder's vectors to their codebook entries.
        codebook_decay: decay of the moving averages of which the codebook consists.
        restart: average number of vectors of a batch; a codebook entry that stands for fewer is moved to one of them; 0: never.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training, which is evaluated in their place; ema with average_decay=0: no
            average.
    """
    dataset = data(normalize=no_normalization)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    p = likelihood()
    network = model(image_shape=dataset.image_shape, outputs=p.outputs)
    task = vq_vae_task(network, likelihood=p, commitment=commitment, decay=codebook_decay, restart=restart)
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average(steps))
