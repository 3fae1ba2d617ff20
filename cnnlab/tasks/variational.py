"""Variational autoencoders: the game of one player that raises a bound on log p(x).

Letters in shapes: S samples of a code, B batch, N images or codes, Z units of a code, P parameters of the likelihood for each
value of an image.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Sampler, Stats, Task
from cnnlab.metric import Metric
from cnnlab.ops import collectives, running_gaussian
from cnnlab.ops.divergences import kl_to_standard_normal, normal_log_density
from cnnlab.ops.elbo import Bound, ElboTerms, log_mean_exp
from cnnlab.ops.keys import stream
from cnnlab.ops.labels import labels_of
from cnnlab.ops.likelihoods import Likelihood
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks import prediction
from cnnlab.tasks.latent_figures import PICTURED, latent_figures
from cnnlab.tasks.reconstruct import interleave
from cnnlab.tasks.sample_quality import SCALAR_ROWS, SampleEvaluator, evaluation_rows, sample_metrics, sampling_keys

PLAYER = "autoencoder"

Binarize = Literal["none", "static", "dynamic"]
CodesFrom = Literal["prior", "fitted", "box"]

CODES = "codes"
"""Key of the model state that holds the mean and the covariance of the training codes."""
BATCHES_REMEMBERED = 200
"""Number of batches over which these are averaged."""

ACTIVE = 0.01
"""Variance of its posterior mean over the images from which on a unit is active (Burda et al. 2016, arXiv 1509.00519, 5.2)."""
AT_ONCE = 10
"""Codes of each image that the estimate of log p(x) decodes at once; more do not fit into a CPU's cache."""
SHOWN = 64
"""Number of samples in a snapshot."""

METRICS = (
    Metric("elbo", "nats", higher_is_better=True),
    Metric("bound", "nats", higher_is_better=True),
    Metric("log_p", "nats", higher_is_better=True),
    Metric("loss", "nats", higher_is_better=False),
    Metric("reconstruction_nats", "nats", higher_is_better=False),
    Metric("kl_nats", "nats"),
    Metric("bits_per_dim", "bits/dim", higher_is_better=False),
    Metric("active_units"),
    Metric("decoder_slope"),
)
"""The metrics that `summary` gives. A small KL, few active units and a flat decoder are neither good nor bad in themselves: a
collapsed posterior has all three."""


class VAE(Protocol):
    """The interface that this task needs of a network (models/vae.py).

    `encode(images f32 [B, H, W, C], labels i32 [B]) -> (mean [B, Z], log variance [B, Z])` and
    `decode(codes [B, Z], labels i32 [B]) -> parameters [B, H, W, C · P]` are its methods.
    """

    @property
    def init(self) -> Callable[..., Any]:
        """Makes the variables, as `flax.linen.Module.init`."""

    @property
    def apply(self) -> Callable[..., Any]:
        """Calls a method by name, as `flax.linen.Module.apply`: `encode` or `decode`."""

    @property
    def latent(self) -> int:
        """Z, units of the code."""

    @property
    def classes(self) -> int:
        """Number of classes whose labels both halves get; 0: they get no labels."""


@dataclasses.dataclass(frozen=True)
class _Network:
    """The model with its likelihood and its distribution of codes; computes in the dtype of its parameters and returns f32."""

    model: VAE
    likelihood: Likelihood
    binarize: Binarize
    codes_from: CodesFrom

    def encode(self, params: Params, images: Array, labels: Array | None) -> tuple[Array, Array]:
        """Returns the mean and the log variance of q(z | x), both f32 [B, Z]."""
        images = images.astype(jax.tree.leaves(params)[0].dtype)
        moments: Any = self.model.apply({"params": params[PLAYER]}, images, labels, method="encode")
        return at_least_f32(moments[0]), at_least_f32(moments[1])

    def decode(self, params: Params, codes: Array, labels: Array | None) -> Array:
        """Returns the parameters of p(x | z), f32 [N, H, W, C · P], for codes [N, Z]."""
        codes = codes.astype(jax.tree.leaves(params)[0].dtype)
        decoded: Any = self.model.apply({"params": params[PLAYER]}, codes, labels, method="decode")
        return at_least_f32(decoded)

    def images(self, params: Params, codes: Array, labels: Array | None) -> Array:
        """Returns the expected images f32 [N, H, W, C] of codes [N, Z]."""
        return self.likelihood.mean(self.decode(params, codes, labels))

    def targets(self, batch: Batch, keys: Array | None) -> Array:
        """Returns the images f32 [B, H, W, C] that the likelihood is of: grey levels, or black and white pixels sampled so.

        Args:
            batch: images in [0, 1].
            keys: [B], those of a training step; None: those of the examples, which are always the same.
        """
        images = at_least_f32(batch["image"])
        if self.binarize == "none":
            return images
        keys = sampling_keys(batch, "binarize") if keys is None or self.binarize == "static" else keys
        return jax.vmap(jax.random.bernoulli)(keys, images).astype(jnp.float32)

    def log_terms(
        self, params: Params, images: Array, labels: Array, codes: Array, mean: Array, log_variance: Array
    ) -> tuple[Array, Array]:
        """Returns log p(x | z) and log p(z) − log q(z | x), both f32 [S, B], for codes [S, B, Z]."""
        samples, zeros = codes.shape[0], jnp.zeros((1, 1, 1), jnp.float32)
        # The decoder takes one axis of codes: [S, B, Z] -> [S·B, Z]; labels [B] -> [S·B], or [B, K] -> [S·B, K]
        repeated = jnp.tile(labels, (samples,) + (1,) * (labels.ndim - 1))
        decoded = self.decode(params, codes.reshape(-1, codes.shape[2]), repeated)
        decoded = decoded.reshape(samples, -1, *decoded.shape[1:])  # [S·B, H, W, C·P] -> [S, B, H, W, C·P]
        log_likelihood = self.likelihood.log_p(decoded, images[None])
        log_posterior = normal_log_density(codes, mean[None], log_variance[None])
        return log_likelihood, normal_log_density(codes, zeros, zeros) - log_posterior

    def elbo_terms(
        self, params: Params, images: Array, labels: Array, keys: Array, samples: int
    ) -> tuple[ElboTerms, Array, Array]:
        """Returns the terms of the bound by S codes of each image, these f32 [S, B, Z] and their means f32 [B, Z]; keys [B]."""
        mean, log_variance = self.encode(params, images, labels)
        noise = jax.vmap(lambda key: jax.random.normal(key, (samples, mean.shape[1])), out_axes=1)(keys)  # [B] -> [S, B, Z]
        codes = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
        terms = self.log_terms(params, images, labels, codes, mean, log_variance)
        return ElboTerms(*terms, kl_to_standard_normal(mean, log_variance)), codes, mean

    def decoder_slopes(self, params: Params, labels: Array, keys: Array) -> Array:
        """Returns ‖J v‖² f32 [B]: J is the derivative of the expected image at a code from the prior, v is normal; keys [B].

        Its expectation is ‖J‖²: the estimate of a trace by random vectors is Hutchinson's (1990).
        """

        def images(codes: Array) -> Array:
            return self.images(params, codes, labels)

        pairs = jax.vmap(lambda key: jax.random.normal(key, (2, self.model.latent)))(keys)  # [B, 2, Z]: code and v
        _, moved = jax.jvp(images, (pairs[:, 0],), (pairs[:, 1],))
        return jnp.sum(jnp.square(moved), axis=(1, 2, 3))

    def log_p(self, params: Params, images: Array, labels: Array, keys: Array, samples: int) -> Array:
        """Returns log p(x) f32 [B] by importance sampling from q(z | x), AT_ONCE codes of each image at a time; keys [B]."""
        mean, log_variance = self.encode(params, images, labels)

        def add_chunk(total: Array, first: Array) -> tuple[Array, None]:
            """Adds codes first … first + AT_ONCE − 1 to the running log-sum of the weights, f32 [B]."""
            numbers = first + jnp.arange(AT_ONCE, dtype=jnp.int32)
            # A key for the number of each code: the first codes are the same however many are drawn. [AT_ONCE, B, Z]
            noise = jax.vmap(lambda number: jax.vmap(lambda key: _noise(key, number, mean.shape[1]))(keys))(numbers)
            codes = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
            log_likelihood, log_ratio = self.log_terms(params, images, labels, codes, mean, log_variance)
            # The last chunk may pass `samples`: the codes beyond weigh nothing.
            weights = jnp.where((numbers < samples)[:, None], log_likelihood + log_ratio, -jnp.inf)
            return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

        start = jnp.full(labels.shape, -jnp.inf, jnp.float32)
        total, _ = jax.lax.scan(add_chunk, start, jnp.arange(0, samples, AT_ONCE, dtype=jnp.int32))
        return total - math.log(samples)

    def sampler(self) -> Sampler:
        """Returns the sampler of expected images, of codes from the prior or from what is fitted to the training codes.

        A lower temperature draws codes nearer to the centre of that distribution.
        """

        def codes(params: Params, model_state: PyTree, keys: Array, temperature: Array) -> Array:
            if self.codes_from == "fitted":
                return running_gaussian.draw(model_state[CODES], keys, temperature)
            if self.codes_from == "box":
                return running_gaussian.draw_box(model_state[CODES], keys, temperature)
            return temperature * jax.vmap(lambda key: jax.random.normal(key, (self.model.latent,)))(keys)

        def draw(params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
            return self.images(params, codes(params, model_state, keys, temperature), labels)

        def decode(params: Params, model_state: PyTree, codes: Array, labels: Array) -> Array:
            return self.images(params, codes, labels)

        return Sampler(draw, codes, decode, conditional=self.model.classes > 0)

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the expected image of each image's mean code, without a label (core.Task.predict)."""
        return self.images(params, self.encode(params, inputs, None)[0], None)

    def snapshot(self, params: Params, model_state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """Returns images, each followed by its reconstruction, and samples (core.Task.snapshot)."""
        images, labels = self.targets(batch, None), labels_of(batch)
        out = self.images(params, self.encode(params, images, labels)[0], labels)
        keys, classes = jax.random.split(key, SHOWN), jnp.arange(SHOWN, dtype=jnp.int32) % max(self.model.classes, 1)
        samples = self.sampler().draw(params, model_state, keys, classes, jnp.float32(1.0))
        return {"reconstructions": interleave(images, out), "samples": samples}

    def figures(self, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        """Returns interpolations, traversals or the plane of codes, and classes (core.Task.figures)."""
        feed: Any = next(data.evaluate(split, min(PICTURED, data.sizes[split])))
        batch = data.prepare(data.resident.get(split, {}), feed, None)
        ends, _ = self.encode(params, self.targets(batch, None), labels_of(batch))
        decode = jax.jit(functools.partial(self.images, params))
        labels = np.asarray(labels_of(batch))
        return latent_figures(decode, np.asarray(ends), labels, stats, data, self.model.classes > 0, split)


@dataclasses.dataclass(frozen=True)
class _Game:
    """The functions of the task; `variational` describes the fields."""

    network: _Network
    bound: Bound
    steps: int
    evaluator: SampleEvaluator
    log_p_samples: int

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Returns the parameters, and the model state: steps taken and, for fitted codes, their running Gaussian."""
        model = self.network.model
        variables = model.init(key, batch["image"][:1], labels_of(batch)[:1])
        fitted = {} if self.network.codes_from == "prior" else {CODES: running_gaussian.start(model.latent)}
        return {PLAYER: variables["params"]}, {"steps": jnp.zeros((), jnp.int32), **fitted}

    def loss(
        self, params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        """Returns the loss of the bound on a training batch."""
        count = batch["image"].shape[0]
        images = self.network.targets(batch, collectives.example_keys(stream(key, "binarize"), count))
        keys = collectives.example_keys(stream(key, "code"), count)
        terms, codes, _ = self.network.elbo_terms(params, images, labels_of(batch), keys, self.bound.samples)
        done = model_state["steps"] + 1
        state = {"steps": done}
        if self.network.codes_from != "prior":
            # One code of each image is enough for the running Gaussian: [S, B, Z] -> [B, Z]
            state[CODES] = running_gaussian.update(model_state[CODES], codes[0], window=BATCHES_REMEMBERED)
        value = self.bound.loss(terms, done.astype(jnp.float32) / max(self.steps, 1))
        return value, (state, {"sums": {"loss": value * count, **_sums(terms, batch)}, "rows": {}})

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns the statistics of a held-out batch, from as many codes of each image as in training."""
        keys, labels = sampling_keys(batch, "code"), labels_of(batch)
        terms, _, mean = self.network.elbo_terms(params, self.network.targets(batch, None), labels, keys, self.bound.samples)
        each = jnp.mean(terms.log_likelihood, axis=0) - jnp.sum(terms.kl, axis=1)
        slopes = self.network.decoder_slopes(params, labels, sampling_keys(batch, "slope"))
        sums = {**_sums(terms, batch), "slope": jnp.sum(jnp.where(batch["mask"], slopes, 0.0))}
        rows = {"index": batch["index"], "label": labels_of(batch), "mask": batch["mask"]}
        return {"sums": sums, "rows": {**rows, "elbo": each, "code": mean}}

    def measure_final(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns what is measured at the end of a run alone: one sample for each test image, and the estimate of log p."""
        images, labels = at_least_f32(batch["image"]), labels_of(batch)
        samples = self.network.sampler().draw(params, model_state, sampling_keys(batch), labels, jnp.float32(1.0))
        rows = evaluation_rows(self.evaluator, images, samples)
        if not self.log_p_samples:
            return {"sums": {}, "rows": rows}
        targets, keys = self.network.targets(batch, None), sampling_keys(batch, "log p")
        log_p = self.network.log_p(params, targets, labels, keys, self.log_p_samples)
        return {"sums": {"log_p": jnp.sum(jnp.where(batch["mask"], log_p, 0.0))}, "rows": {**rows, "log_p": log_p}}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the metrics of the bound and those of the evaluator."""
        return {**summary(stats, bits=self.network.likelihood.discrete), **sample_metrics(self.evaluator, stats["rows"])}


def variational(
    model: VAE,
    *,
    likelihood: Likelihood,
    bound: Bound,
    binarize: Binarize,
    steps: int,
    evaluator: SampleEvaluator,
    codes_from: CodesFrom = "prior",
    log_p_samples: int = 0,
) -> Task:
    """The task of training `model` to give images in [0, 1] a high probability.

    Held-out images are measured with the same random numbers every time: their keys come from the examples' indices.

    Args:
        model: encoder and decoder.
        likelihood: p(x | z), whose parameters the decoder gives.
        bound: lower bound on log p(x) that training raises.
        binarize: `none` takes grey levels as they are, `static` samples every image once as black and white pixels, by its
            index in the split; `dynamic` samples it afresh at every step (Burda et al. 2016) and once where it is measured.
        steps: number of training steps, for annealing.
        evaluator: measures of images that are sampled at the end, one for each test image.
        codes_from: distribution from which the codes of sampled images come: the `prior`; a Gaussian `fitted` to the codes of
            the last training batches, for a model not trained to match the prior (Ghosh et al. 2020, arXiv 1903.12436); or a
            `box` with the mean and the standard deviation of each unit of these, in which the units are independent.
        log_p_samples: number of codes in an importance-weighted estimate of log p(x) at the end of the run; 0: no estimate.
    """
    network = _Network(model, likelihood, binarize, codes_from)
    game = _Game(network, bound, steps, evaluator, log_p_samples)
    return Task(
        init=game.init,
        loss=game.loss,
        predict=network.predict,
        measure=game.measure,
        summary=game.summary,
        figures=network.figures,
        turns=(PLAYER,),
        metrics=(*sorted(METRICS, key=lambda metric: metric.name != bound.metric), *evaluator.metrics),  # the bound ranks runs
        logged_metrics=("reconstruction_nats", "kl_nats"),
        kept_rows=("index", "label", "elbo", "code", "log_p", *SCALAR_ROWS),
        prediction=prediction.of_images(),
        snapshot=network.snapshot,
        sampler=network.sampler(),
        diagnosis=diagnosis,
        measure_final=game.measure_final,
    )


def _noise(key: Array, number: Array, units: int) -> Array:
    """Returns the standard normal noise f32 [Z] of the code with this number."""
    return jax.random.normal(jax.random.fold_in(key, number), (units,))


def _sums(terms: ElboTerms, batch: Batch) -> dict[str, Array]:
    """Returns sums over the real examples: nats of the two terms, the importance-weighted bound, and counts."""

    def over_real(each: Array) -> Array:
        return jnp.sum(jnp.where(batch["mask"], each, 0.0))

    count = jnp.sum(batch["mask"].astype(jnp.float32))
    found = {
        "log_likelihood": over_real(jnp.mean(terms.log_likelihood, axis=0)),
        "kl": over_real(jnp.sum(terms.kl, axis=1)),
        "values": count * batch["image"][0].size,
        "count": count,
    }
    if len(terms.log_likelihood) > 1:
        found["bound"] = over_real(log_mean_exp(terms.log_likelihood + terms.log_ratio))
    return found


def summary(stats: Stats, *, bits: bool) -> dict[str, float]:
    """Returns means over images in nats: `elbo` = −`reconstruction_nats` − `kl_nats`, `bound` of several samples, `log_p`.

    `bits_per_dim` is −elbo in bits for each value of an image, given where `bits`: p is a probability and no density.
    `active_units` are those whose posterior mean varies over the images, and `decoder_slope` is how far the expected image
    moves (root mean square over codes of the prior, Euclidean distance of images) as the code moves by 1 in each unit.
    """
    sums, rows = stats["sums"], stats["rows"]
    count = max(float(sums["count"]), 1.0)
    found: dict[str, float] = {name: float(sums[name]) / count for name in ("loss", "bound", "log_p") if name in sums}
    found["reconstruction_nats"] = -float(sums["log_likelihood"]) / count
    found["kl_nats"] = float(sums["kl"]) / count
    found["elbo"] = -found["reconstruction_nats"] - found["kl_nats"]
    if bits:
        found["bits_per_dim"] = -found["elbo"] * count / max(float(sums["values"]), 1.0) / math.log(2)
    if "slope" in sums:
        found["decoder_slope"] = math.sqrt(float(sums["slope"]) / count)
    if "code" in rows:
        found["active_units"] = float(np.sum(np.var(rows["code"], axis=0, dtype=np.float64) > ACTIVE))
    return found


def diagnosis(metrics: Mapping[str, float]) -> str:
    """Returns a sentence that the posterior collapsed, where no unit of the code is active."""
    if metrics.get("test/active_units", 1.0) > 0:
        return ""
    return (
        "the posterior collapsed: no unit of the code distinguishes images, and the decoder gives one image for all.\n"
        "  Try a smaller --beta, --anneal=0.3 or --free_bits=0.1."
    )
