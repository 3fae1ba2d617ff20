"""Recipes of variational autoencoders, which experiments fill in with defaults of their own."""

from typing import Annotated, Literal

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.models import VAES, VQ_VAES
from cnnlab.ops.elbo import BOUNDS
from cnnlab.ops.likelihoods import LIKELIHOODS
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.recipes.evaluators import EVALUATORS
from cnnlab.tasks.variational import Binarize, CodesFrom, variational
from cnnlab.tasks.vq_vae import vq_vae_task
from cnnlab.values import Choice, Count, Duration, Fraction, NonNegative, Range


def variational_autoencoder(
    *,
    model: Choice[VAES] = "mlp",
    dataset: Choice[DATASETS] = "digits",
    likelihood: Choice[LIKELIHOODS] = "bernoulli",
    binarize: Binarize = "none",
    bound: Choice[BOUNDS] = "elbo",
    conditional: bool = False,
    log_p_samples: Annotated[int, Range(0)] = 100,
    codes_from: CodesFrom = "prior",
    judge: Choice[EVALUATORS] = "pixels",
    optimizer: Choice[OPTIMIZERS] = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    augment: Choice[AUGMENTS] = "none",
    batch_size: Count | None = 100,
    duration: Duration = Duration(50, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
) -> Experiment:
    """A variational autoencoder: one player, who raises a bound on the log-probability of images.

    Args:
        model: encoder and decoder.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        likelihood: of an image, given its code.
        binarize: none takes grey levels as they are; static draws each image once as black and white pixels, dynamic afresh at
            every step.
        bound: what is raised.
        conditional: whether encoder and decoder are told the label, so that images of a class can be drawn.
        log_p_samples: codes of each test image for the estimate of log p at the end of the run; 0: none is made.
        codes_from: the prior, or a Gaussian fitted to the codes of training, from which the codes of drawn images come.
        judge: of images drawn at the end: pixels, or run:FOLDER, a classifier that was trained here.
        optimizer: how the weights move.
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
        average_decay: of the moving average of the parameters that is evaluated; 0: none.
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
        augment=augment,
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    p = likelihood()
    network = model(image_shape=data.image_shape, outputs=p.outputs, classes=data.classes if conditional else 0)
    task = variational(
        network,
        likelihood=p,
        bound=bound(),
        binarize=binarize,
        steps=steps,
        judge=judge(data=data),
        codes_from=codes_from,
        log_p_samples=log_p_samples,
    )
    optimizers = {player: optimizer(schedule(steps)) for player in task.turns}
    return Experiment(task, data, optimizers, steps, average_decay)


def quantized_autoencoder(
    *,
    model: Choice[VQ_VAES] = "vq_vae",
    dataset: Choice[DATASETS] = "digits",
    likelihood: Choice[LIKELIHOODS] = "bernoulli",
    commitment: NonNegative = 0.25,
    codebook_decay: Fraction = 0.99,
    restart: NonNegative = 1.0,
    optimizer: Choice[OPTIMIZERS] = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    augment: Choice[AUGMENTS] = "none",
    batch_size: Count | None = 100,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
) -> Experiment:
    """A vector-quantised autoencoder: one player, and a codebook that follows the encoder.

    Args:
        model: encoder and decoder.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        likelihood: of an image, given its codes.
        commitment: weight of the squared distance from the encoder's vectors to the entries that replace them.
        codebook_decay: of the moving averages that the codebook is.
        restart: an entry that fewer vectors of a batch choose, on average, is moved to one of them; 0: none is.
        optimizer: how the weights move.
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
        average_decay: of the moving average of the parameters that is evaluated; 0: none.
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
        augment=augment,
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    p = likelihood()
    network = model(image_shape=data.image_shape, outputs=p.outputs)
    task = vq_vae_task(network, likelihood=p, commitment=commitment, decay=codebook_decay, restart=restart)
    optimizers = {player: optimizer(schedule(steps)) for player in task.turns}
    return Experiment(task, data, optimizers, steps, average_decay)
