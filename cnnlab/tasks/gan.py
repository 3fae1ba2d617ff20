"""Generative adversarial networks, the game of two players.

Letters in shapes: B batch, N images or points, H W space, C channels, K classes, Z units of a code.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Sampler, Stats, Task
from cnnlab.metric import Metric
from cnnlab.ops import collectives, draws
from cnnlab.ops.gan_losses import GanLoss, gradient_penalty, interpolate, loss_with_image_gradient, squared_gradient_norms
from cnnlab.ops.keys import stream
from cnnlab.ops.labels import class_shares, labels_of
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.sample_quality import SCALAR_ROWS, SampleEvaluator, evaluation_rows, sample_metrics, sampling_keys
from cnnlab.values import Count, NonNegative

GENERATOR = "generator"
DISCRIMINATOR = "discriminator"
Prior = Literal["normal", "uniform"]

METRICS = (
    Metric("discriminator_loss"),
    Metric("generator_loss"),
    Metric("real_score"),
    Metric("fake_score"),
    Metric("sample_gradient"),
    Metric("critic_slope"),
    Metric("real_slope"),
)
"""The metrics that `summary` gives beside those of the evaluator. None has a sense: a player's loss falls when the other one
is weak, and at the equilibrium D(x) and D(G(z)) are ½."""

SHOWN_POINTS = 4096
"""Number of points sampled for a snapshot of two-dimensional data."""
CELLS = 96
"""Side of that snapshot, in pixels."""
DOUBTFUL = 0.02
"""D(G(z)) below which the discriminator counts as certain."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """The two networks of a game, with the labels of a conditional pair joined to their inputs."""

    generator: nn.Module
    discriminator: nn.Module
    latent: int
    classes: int
    """Number of classes of a conditional pair; 0: it gets no labels."""

    def generate(self, params: Params, state: PyTree, codes: Array, labels: Array, *, train: bool) -> tuple[Array, PyTree]:
        """Returns images [B, H, W, C] in [−1, 1] from codes [B, Z] and labels i32 [B], and the generator's new state."""
        if self.classes:
            # [B, Z] and one-hot [B, K] -> [B, Z + K]
            codes = jnp.concatenate([codes, class_shares(labels, self.classes, codes.dtype)], axis=1)
        return _apply(self.generator, GENERATOR, params, state, codes, None, train=train)

    def score(
        self, params: Params, state: PyTree, images: Array, labels: Array, key: Array | None, *, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns scores f32 [B] of images in [−1, 1], and the discriminator's new state; `key` is that of dropout."""
        if self.classes:
            # The label as K constant planes: one-hot [B, K] -> [B, 1, 1, K] -> [B, H, W, K], joined to [B, H, W, C + K]
            one_hot = class_shares(labels, self.classes, images.dtype)[:, None, None]
            planes = jnp.broadcast_to(one_hot, (*images.shape[:3], self.classes))
            images = jnp.concatenate([images, planes], axis=3)
        scores, state = _apply(self.discriminator, DISCRIMINATOR, params, state, images, key, train=train)
        return at_least_f32(scores), state


def _apply(
    module: nn.Module, player: str, params: Params, state: PyTree, inputs: Array, key: Array | None, *, train: bool
) -> tuple[Array, PyTree]:
    """Returns the output of one player's network and its new state; outside of training the state stays as it is."""
    variables = {"params": params[player], **state[player]}
    if not train:
        output: Any = module.apply(variables, inputs, train=False)
        return output, state[player]
    rngs = {} if key is None else {"dropout": key}
    output, updated = module.apply(variables, inputs, train=True, rngs=rngs, mutable=sorted(state[player]))
    return output, dict(updated)


def gan_task(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    objective: GanLoss,
    evaluator: SampleEvaluator,
    latent: Count = 100,
    prior: Prior = "normal",
    classes: int = 0,
    critic_steps: Count = 1,
    r1: NonNegative | None = None,
) -> Task:
    """The game of a generator and a discriminator on images in [0, 1].

    In a step the discriminator moves `critic_steps` times and then the generator once. A player's batch statistics move in
    its own turns alone; real and generated images are normalised apart.

    Deviation: the discriminator's turns of a step see the same real images, with new codes each, where Gulrajani et al. 2017
    (algorithm 1) take new images for each turn.

    Args:
        generator: codes [B, Z] -> images [B, H, W, C] in [−1, 1] (see models/gan.py).
        discriminator: images -> scores [B].
        objective: losses of both players, one of ops.gan_losses.GAN_LOSSES.
        evaluator: measures of the images that are generated for held-out examples.
        latent: Z, units of a code.
        prior: distribution of the codes: standard normal, or uniform in [−1, 1].
        classes: K where the pair gets the labels (Mirza and Osindero 2014, arXiv 1411.1784); 0: it gets none.
        critic_steps: number of turns of the discriminator in a step.
        r1: weight of ½ ‖∇D‖² at real images (Mescheder et al. 2018, arXiv 1801.04406, eq. 9); none: it is not computed.
    """
    nets = Networks(generator, discriminator, latent, classes)
    sample_codes = functools.partial(_codes, latent=latent, prior=prior)
    discriminator_loss = functools.partial(_discriminator_loss, nets, objective, sample_codes, r1)
    generator_loss = functools.partial(_generator_loss, nets, objective, sample_codes)

    def loss(params: Params, state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
        return (discriminator_loss if player == DISCRIMINATOR else generator_loss)(params, state, batch, key)

    def predict(params: Params, state: PyTree, inputs: Array) -> Array:
        labels = jnp.zeros(inputs.shape[0], jnp.int32)  # inputs have none: a conditional pair is given the first class
        return nets.score(params, state, _to_signed(inputs), labels, None, train=False)[0]

    sampler = _sampler(nets, sample_codes)
    return Task(
        init=functools.partial(_init, nets),
        loss=loss,
        predict=predict,
        measure=functools.partial(_measure, nets, objective, evaluator, sample_codes),
        summary=lambda stats: {**_means(stats["sums"]), **sample_metrics(evaluator, stats["rows"])},
        figures=lambda params, state, stats, data, split: _figures(sampler, params, state, data),
        turns=(*(DISCRIMINATOR,) * critic_steps, GENERATOR),
        metrics=(*evaluator.metrics, *METRICS),
        logged_metrics=("discriminator_loss", "generator_loss", "real_score", "fake_score"),
        kept_rows=SCALAR_ROWS,
        snapshot=functools.partial(_snapshot, sampler, classes),
        sampler=sampler,
        diagnosis=functools.partial(_diagnosis, evaluator, objective.is_probability),
    )


def _codes(keys: Array, dtype: Any, *, latent: int, prior: Prior) -> Array:
    """Returns codes [B, Z], each sampled by its own key of keys [B]."""
    if prior == "normal":
        return jax.vmap(lambda key: draws.normal(key, (latent,), dtype))(keys)
    return jax.vmap(lambda key: draws.uniform(key, (latent,), dtype, -1.0, 1.0))(keys)


def _init(nets: Networks, key: Array, batch: Batch) -> tuple[Params, PyTree]:
    """Returns the parameters and the state of both networks."""
    image = batch["image"][:1]
    codes = jnp.zeros((1, nets.latent + nets.classes), image.dtype)
    inputs = jnp.zeros((*image.shape[:3], image.shape[3] + nets.classes), image.dtype)
    started = {
        GENERATOR: nets.generator.init(stream(key, GENERATOR), codes, train=False),
        DISCRIMINATOR: nets.discriminator.init(stream(key, DISCRIMINATOR), inputs, train=False),
    }
    params = {player: variables["params"] for player, variables in started.items()}
    return params, {player: {k: v for k, v in variables.items() if k != "params"} for player, variables in started.items()}


def _measure(
    nets: Networks,
    objective: GanLoss,
    evaluator: SampleEvaluator,
    sample_codes: Callable[..., Array],
    params: Params,
    state: PyTree,
    batch: Batch,
) -> Stats:
    """Returns the scores and the evaluation of held-out images, and of one generated for each."""
    images, labels, mask = batch["image"], labels_of(batch), batch["mask"]
    generated, _ = nets.generate(params, state, sample_codes(sampling_keys(batch), images.dtype), labels, train=False)
    sums = {"count": jnp.sum(mask.astype(jnp.float32))}
    for name, shown in (("real_score", _to_signed(images)), ("fake_score", generated)):
        scores, _ = nets.score(params, state, shown, labels, None, train=False)
        sums[name] = jnp.sum(jnp.where(mask, objective.reported_score(scores), 0.0))
    return {"sums": sums, "rows": {**evaluation_rows(evaluator, images, _to_unit(generated)), "mask": mask}}


def _to_signed(images: Array) -> Array:
    """Maps [0, 1] to [−1, 1]."""
    return 2.0 * images - 1.0


def _to_unit(images: Array) -> Array:
    """Maps [−1, 1] to [0, 1]."""
    return 0.5 * (images + 1.0)


def _discriminator_loss(
    nets: Networks,
    objective: GanLoss,
    sample_codes: Callable[..., Array],
    r1: float | Array | None,
    params: Params,
    state: PyTree,
    batch: Batch,
    key: Array,
) -> tuple[Array, tuple[PyTree, Stats]]:
    """Returns the discriminator's loss on real images and as many generated ones."""
    real, labels, size = _to_signed(batch["image"]), labels_of(batch), len(batch["index"])
    codes = sample_codes(collectives.example_keys(stream(key, "codes"), size), real.dtype)
    generated = jax.lax.stop_gradient(nets.generate(params, state, codes, labels, train=True)[0])
    # Two passes, as their batch statistics are apart; the second starts from the state that the first leaves.
    own = state
    real_scores, own = _score(nets, params, own, real, labels, stream(key, "real"))
    fake_scores, own = _score(nets, params, own, generated, labels, stream(key, "fake"))
    losses = objective.discriminator(real_scores, fake_scores)
    sums = {
        "discriminator_loss": jnp.sum(losses),
        "real_score": jnp.sum(objective.reported_score(real_scores)),
        "fake_score": jnp.sum(objective.reported_score(fake_scores)),
        "discriminator_count": jnp.float32(size),
    }

    def squared_slopes(images: Array, name: str) -> Array:
        """Returns ‖∇D‖² at each of images [B, H, W, C], f32 [B]."""
        return squared_gradient_norms(lambda x: _score(nets, params, own, x, labels, stream(key, name))[0], images)

    if objective.gradient_penalty is not None:
        middle = interpolate(real, generated, collectives.example_keys(stream(key, "between"), size))
        squared = squared_slopes(middle, "penalty")
        losses += jnp.asarray(objective.gradient_penalty, jnp.float32) * gradient_penalty(squared)
        sums["critic_slope"] = jnp.sum(jnp.sqrt(squared))
    if r1 is not None:
        squared = squared_slopes(real, "r1")
        losses += 0.5 * jnp.asarray(r1, jnp.float32) * squared
        sums["real_slope"] = jnp.sum(jnp.sqrt(squared))
    return jnp.mean(losses), (own, {"sums": sums, "rows": {}})


def _score(nets: Networks, params: Params, state: PyTree, images: Array, labels: Array, key: Array) -> tuple[Array, PyTree]:
    """Returns scores [B] in training, and the whole model state with the discriminator's new part."""
    scores, own = nets.score(params, state, images, labels, key, train=True)
    return scores, {**state, DISCRIMINATOR: own}


def _generator_loss(
    nets: Networks,
    objective: GanLoss,
    sample_codes: Callable[..., Array],
    params: Params,
    state: PyTree,
    batch: Batch,
    key: Array,
) -> tuple[Array, tuple[PyTree, Stats]]:
    """Returns the generator's loss, which the discriminator's scores of generated images give."""
    labels, size = labels_of(batch), len(batch["index"])
    codes = sample_codes(collectives.example_keys(stream(key, "codes"), size), batch["image"].dtype)
    generated, own = nets.generate(params, state, codes, labels, train=True)

    def loss_of(images: Array) -> tuple[Array, Array]:
        scores = _score(nets, params, state, images, labels, stream(key, "fake"))[0]
        losses = objective.generator(scores)
        return jnp.mean(losses), losses

    loss, losses, gradient = loss_with_image_gradient(loss_of, generated)
    # [B, H, W, C] -> [B, H·W·C]; times B, for the gradient of an example's own loss instead of the mean's
    each = at_least_f32(gradient.reshape(size, -1)) * size
    sums = {
        "generator_loss": jnp.sum(losses),
        "sample_gradient": jnp.sum(jnp.linalg.norm(each, axis=1)),
        "generator_count": jnp.float32(size),
    }
    return loss, ({**state, GENERATOR: own}, {"sums": sums, "rows": {}})


def _means(sums: Mapping[str, Any]) -> dict[str, float]:
    """Returns means over the turns of training, or over a held-out split.

    `discriminator_loss` (without penalties), `generator_loss`; `real_score`, `fake_score`: D(x) and D(G(z)), probabilities
    where the loss has them; `sample_gradient`: norm of the gradient of a generated example's loss by its pixels;
    `critic_slope`, `real_slope`: ‖∇D‖ where it is penalised.
    """
    # The players take different numbers of turns in a step, so each sum is divided by the examples of its own player.
    generator = ("generator_loss", "sample_gradient")
    counts = {name: "generator_count" if name in generator else "discriminator_count" for name in sums}
    if "count" in sums:
        counts = dict.fromkeys(counts, "count")
    return {
        name: float(value) / max(float(sums[counts[name]]), 1.0)
        for name, value in sums.items()
        if not name.endswith("count") and counts[name] in sums
    }


def _sampler(nets: Networks, sample_codes: Callable[..., Array]) -> Sampler:
    """Returns the sampler of the generator; the temperature scales the codes."""

    def codes(params: Params, state: PyTree, keys: Array, temperature: Array) -> Array:
        return sample_codes(keys, jnp.float32) * temperature

    def decode(params: Params, state: PyTree, codes: Array, labels: Array) -> Array:
        return _to_unit(nets.generate(params, state, codes, labels, train=False)[0])

    def draw(params: Params, state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
        return decode(params, state, codes(params, state, keys, temperature), labels)

    return Sampler(draw, codes, decode, conditional=nets.classes > 0)


def _samples(sampler: Sampler, params: Params, state: PyTree, key: Array, count: int, classes: int) -> Array:
    """Returns images f32 [count, H, W, C] of the sampler, all classes in turn where there are any."""
    labels = jnp.arange(count, dtype=jnp.int32) % max(classes, 1)
    return sampler.draw(params, state, collectives.example_keys(key, count), labels, jnp.float32(1))


def _snapshot(sampler: Sampler, classes: int, params: Params, state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
    """Returns `samples` of the same codes each time; of two-dimensional data, a map of their density."""
    if math.prod(batch["image"].shape[1:]) == 2:
        points = _samples(sampler, params, state, stream(key, "samples"), SHOWN_POINTS, classes)
        return {"samples": _density_map(points.reshape(-1, 2))[None]}  # [N, 1, 2, 1] -> [N, 2]; one sheet [1, S, S, 1]
    return {"samples": _samples(sampler, params, state, stream(key, "samples"), len(batch["index"]), classes)}


def _density_map(points: Array) -> Array:
    """Returns f32 [S, S, 1], S = CELLS: how many of points [N, 2] lie in each cell of [0, 1]², darker for more."""
    across, up = jnp.floor(points * CELLS).astype(jnp.int32).T  # [N, 2] -> two of [N]
    # Points outside are dropped: they are sent to row S, as a negative row or column would count from the end.
    inside = (across >= 0) & (up >= 0) & (up < CELLS)
    row, column = jnp.where(inside, CELLS - 1 - up, CELLS), jnp.where(inside, across, CELLS)
    counts = jnp.zeros((CELLS, CELLS), jnp.float32).at[row, column].add(1.0, mode="drop")
    return (1.0 - jnp.minimum(jnp.sqrt(counts / 8.0), 1.0))[..., None]


def _figures(sampler: Sampler, params: Params, state: PyTree, data: Dataset) -> dict[str, Any]:
    """Returns `samples`: generated images, one class in each column where the pair gets the class."""
    from cnnlab import figures

    if math.prod(data.image_shape) == 2:
        return {}
    classes = data.classes if sampler.conditional else 0
    columns = classes if 0 < classes <= 16 else 8
    images = np.asarray(_samples(sampler, params, state, jax.random.key(1), 8 * columns, classes))
    names = figures.class_labels(data.class_names)
    captions = [names[i % classes] if classes and i >= 7 * columns else "" for i in range(len(images))]
    return {"samples": figures.image_grid(np.clip(images, 0, 1), captions, title="Samples of the generator", columns=columns)}


def _diagnosis(evaluator: SampleEvaluator, is_probability: bool, metrics: Mapping[str, float]) -> str:
    """Returns what failed, by a run's last metrics: classes that are never generated, or a discriminator that is certain."""
    sentences = []
    hit = metrics.get(f"test/{evaluator.name}_classes", math.inf)
    if hit < evaluator.classes / 2:
        sentences.append(
            f"The evaluator finds {hit:.0f} of {evaluator.classes} classes among samples: the generator collapsed or has not "
            "learnt."
        )
    fake, gradient = metrics.get("train/fake_score", math.inf), metrics.get("train/sample_gradient", math.inf)
    if is_probability and fake < DOUBTFUL:
        sentences.append(
            f"The discriminator won: D(G(z)) is {fake:.2g}, and the gradient that reaches a sample has norm {gradient:.2g}.\n"
            "  Try --loss=non_saturating or wgan_gp, or a smaller --discriminator_rate."
        )
    return " ".join(sentences)
