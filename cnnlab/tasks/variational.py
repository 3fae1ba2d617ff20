"""Variational autoencoders: the game of one player that raises a bound on log p(x).

Letters in shapes: S samples of a code, B batch, Z units of a code.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Metric, Params, PyTree, Sampler, Stats, Task
from cnnlab.ops import collectives, running_gaussian
from cnnlab.ops.divergences import kl_to_standard_normal, normal_log_density
from cnnlab.ops.elbo import Bound, ElboTerms, log_mean_exp
from cnnlab.ops.keys import stream
from cnnlab.ops.likelihoods import Likelihood
from cnnlab.ops.slerp import slerp
from cnnlab.tasks.reconstruct import beside
from cnnlab.tasks.sample_quality import SCALAR_ROWS, SampleEvaluator, drawing_keys, evaluation_rows, sample_metrics

PLAYER = "autoencoder"

Binarize = Literal["none", "static", "dynamic"]
CodesFrom = Literal["prior", "fitted"]

CODES = "codes"
"""What the model state calls the mean and the covariance of the codes of training."""
BATCHES_REMEMBERED = 200
"""Over how many batches these are averaged."""

ACTIVE = 0.01
"""Variance of a unit's posterior mean over the images above which it is active (Burda et al. 2016, arXiv 1509.00519, 5.2)."""
AT_ONCE = 10
"""Codes of each image that the estimate of log p(x) decodes at once; more fall out of a CPU's cache."""
SHOWN = 64
"""Samples of a snapshot."""


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
"""What `summary` gives. A small KL, few active units and a flat decoder are neither good nor bad in themselves: a collapsed
posterior has all three."""


class VAE(Protocol):
    """What this task needs of a network (models/vae.py).

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
        """K, labels that both halves are given; 0: none."""


@dataclasses.dataclass(frozen=True)
class _Network:
    """The model with what it is to its images; computes in the type of its parameters and gives f32."""

    model: VAE
    likelihood: Likelihood
    binarize: Binarize
    codes_from: CodesFrom

    def encode(self, params: Params, images: Array, labels: Array | None) -> tuple[Array, Array]:
        """Mean and log variance of q(z | x), f32 [B, Z]."""
        images = images.astype(jax.tree.leaves(params)[0].dtype)
        both: Any = self.model.apply({"params": params[PLAYER]}, images, labels, method="encode")
        return both[0].astype(jnp.float32), both[1].astype(jnp.float32)

    def decode(self, params: Params, codes: Array, labels: Array | None) -> Array:
        """Parameters of p(x | z), f32 [N, H, W, C · P], of codes [N, Z]."""
        codes = codes.astype(jax.tree.leaves(params)[0].dtype)
        decoded: Any = self.model.apply({"params": params[PLAYER]}, codes, labels, method="decode")
        return decoded.astype(jnp.float32)

    def images(self, params: Params, codes: Array, labels: Array | None) -> Array:
        """Expected images f32 [N, H, W, C] of codes [N, Z]."""
        return self.likelihood.mean(self.decode(params, codes, labels))

    def seen(self, batch: Batch, keys: Array | None) -> Array:
        """The images as they are taken, black and white ones drawn from them or not; keys [B]: of a training step."""
        images = batch["image"].astype(jnp.float32)
        if self.binarize == "none":
            return images
        keys = drawing_keys(batch, "binarize") if keys is None or self.binarize == "static" else keys
        return jax.vmap(jax.random.bernoulli)(keys, images).astype(jnp.float32)

    def weighed(
        self, params: Params, images: Array, labels: Array, codes: Array, mean: Array, log_variance: Array
    ) -> tuple[Array, Array]:
        """log p(x | z) and log p(z) − log q(z | x), f32 [S, B], of codes [S, B, Z]."""
        samples, zeros = codes.shape[0], jnp.zeros((1, 1, 1), jnp.float32)
        decoded = self.decode(params, codes.reshape(-1, codes.shape[2]), jnp.tile(labels, samples))
        log_likelihood = self.likelihood.log_p(decoded.reshape(samples, -1, *decoded.shape[1:]), images[None])
        log_posterior = normal_log_density(codes, mean[None], log_variance[None])
        return log_likelihood, normal_log_density(codes, zeros, zeros) - log_posterior

    def draws(self, params: Params, images: Array, labels: Array, keys: Array, samples: int) -> tuple[ElboTerms, Array, Array]:
        """(what is known of `samples` codes of each image, these f32 [S, B, Z], their means f32 [B, Z]); keys [B]."""
        mean, log_variance = self.encode(params, images, labels)
        noise = jax.vmap(lambda key: jax.random.normal(key, (samples, mean.shape[1])), out_axes=1)(keys)
        codes = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
        weights = self.weighed(params, images, labels, codes, mean, log_variance)
        return ElboTerms(*weights, kl_to_standard_normal(mean, log_variance)), codes, mean

    def slopes(self, params: Params, labels: Array, keys: Array) -> Array:
        """‖J v‖² f32 [B], J the derivative of the expected image at a code from the prior, v normal: on average ‖J‖²; keys [B].

        The estimate of a trace by random vectors is Hutchinson's (1990).
        """

        def images(codes: Array) -> Array:
            return self.images(params, codes, labels)

        pairs = jax.vmap(lambda key: jax.random.normal(key, (2, self.model.latent)))(keys)
        _, moved = jax.jvp(images, (pairs[:, 0],), (pairs[:, 1],))
        return jnp.sum(jnp.square(moved), axis=(1, 2, 3))

    def log_p(self, params: Params, images: Array, labels: Array, keys: Array, samples: int) -> Array:
        """log p(x) f32 [B] by importance sampling from q(z | x), AT_ONCE codes of each image at a time; keys [B]."""
        mean, log_variance = self.encode(params, images, labels)

        def more(total: Array, first: Array) -> tuple[Array, None]:
            numbers = first + jnp.arange(AT_ONCE, dtype=jnp.int32)
            noise = jax.vmap(lambda number: jax.vmap(lambda key: _noise(key, number, mean.shape[1]))(keys))(numbers)
            codes = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
            log_likelihood, log_ratio = self.weighed(params, images, labels, codes, mean, log_variance)
            weights = jnp.where((numbers < samples)[:, None], log_likelihood + log_ratio, -jnp.inf)
            return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0)), None

        start = jnp.full(labels.shape, -jnp.inf, jnp.float32)
        total, _ = jax.lax.scan(more, start, jnp.arange(0, samples, AT_ONCE, dtype=jnp.int32))
        return total - math.log(samples)

    def measured(self, params: Params, batch: Batch, samples: int) -> Stats:
        """What core.Task.measure gives, from so many codes of each image."""
        keys = drawing_keys(batch, "code")
        draws, _, mean = self.draws(params, self.seen(batch, None), batch["label"], keys, samples)
        each = jnp.mean(draws.log_likelihood, axis=0) - jnp.sum(draws.kl, axis=1)
        slopes = self.slopes(params, batch["label"], drawing_keys(batch, "slope"))
        sums = {**_sums(draws, batch), "slope": jnp.sum(jnp.where(batch["mask"], slopes, 0.0))}
        rows = {name: batch[name] for name in ("index", "label", "mask")}
        return {"sums": sums, "rows": {**rows, "elbo": each, "code": mean}}

    def sampler(self) -> Sampler:
        """Images as expected from codes of the prior, or of the Gaussian that fits those of training; less temperature draws
        codes nearer to the middle.
        """

        def codes(params: Params, model_state: PyTree, keys: Array, temperature: Array) -> Array:
            if self.codes_from == "fitted":
                return running_gaussian.draw(model_state[CODES], keys, temperature)
            return temperature * jax.vmap(lambda key: jax.random.normal(key, (self.model.latent,)))(keys)

        def draw(params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
            return self.images(params, codes(params, model_state, keys, temperature), labels)

        def decode(params: Params, model_state: PyTree, codes: Array, labels: Array) -> Array:
            return self.images(params, codes, labels)

        return Sampler(draw, codes, decode, conditional=self.model.classes > 0)

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """core.Task.predict: the expected image of each image's mean code, its label unknown."""
        return self.images(params, self.encode(params, inputs, None)[0], None)

    def snapshot(self, params: Params, model_state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """core.Task.snapshot: images beside what became of them, and draws."""
        images, labels = self.seen(batch, None), batch["label"]
        out = self.images(params, self.encode(params, images, labels)[0], labels)
        keys, in_turn = jax.random.split(key, SHOWN), jnp.arange(SHOWN, dtype=jnp.int32) % max(self.model.classes, 1)
        samples = self.sampler().draw(params, model_state, keys, in_turn, jnp.float32(1.0))
        return {"reconstructions": beside(images, out), "samples": samples}

    def figures(self, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        """core.Task.figures: what lies between, around and behind codes."""
        feed: Any = next(data.evaluate(split, min(PICTURED, data.sizes[split])))
        batch = data.prepare(data.resident.get(split, {}), feed, None)
        ends, _ = self.encode(params, self.seen(batch, None), batch["label"])
        decode = jax.jit(functools.partial(self.images, params))
        return _figures(decode, np.asarray(ends), np.asarray(batch["label"]), stats, data, self.model.classes > 0, split)


def variational(
    model: VAE,
    *,
    likelihood: Likelihood,
    bound: Bound,
    binarize: Binarize,
    steps: int,
    judge: SampleEvaluator,
    codes_from: CodesFrom = "prior",
    log_p_samples: int = 0,
) -> Task:
    """The task of training `model` to give images in [0, 1] a high probability.

    Held-out images are measured with the same draws every time: keys come from an example's index.

    Args:
        model: encoder and decoder.
        likelihood: p(x | z), whose parameters the decoder gives.
        bound: what is raised.
        binarize: `none` takes grey levels as they are, `static` draws every image once as black and white pixels, by its index
            in the split; `dynamic` draws it afresh at every step (Burda et al. 2016) and once where it is measured.
        steps: of the training, for annealing.
        judge: of images that are drawn at the end, one for each test image.
        codes_from: what the codes of drawn images come from: the `prior`, or a Gaussian `fitted` to the codes of the last
            batches of training, for a model that was not asked to match the prior (Ghosh et al. 2020, arXiv 1903.12436).
        log_p_samples: of an importance-weighted estimate of log p(x) at the end of the run; 0: none.
    """
    network = _Network(model, likelihood, binarize, codes_from)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        variables = model.init(key, batch["image"][:1], batch["label"][:1])
        fitted = {CODES: running_gaussian.start(model.latent)} if codes_from == "fitted" else {}
        return {PLAYER: variables["params"]}, {"steps": jnp.zeros((), jnp.int32), **fitted}

    def loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
        count = batch["image"].shape[0]
        images = network.seen(batch, collectives.example_keys(stream(key, "binarize"), count))
        keys = collectives.example_keys(stream(key, "code"), count)
        draws, codes, _ = network.draws(params, images, batch["label"], keys, bound.samples)
        done = model_state["steps"] + 1
        state = {"steps": done}
        if codes_from == "fitted":
            state[CODES] = running_gaussian.update(model_state[CODES], codes[0], window=BATCHES_REMEMBERED)
        value = bound.loss(draws, done.astype(jnp.float32) / max(steps, 1))
        return value, (state, {"sums": {"loss": value * count, **_sums(draws, batch)}, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        return network.measured(params, batch, bound.samples)

    def final(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        images, labels = batch["image"].astype(jnp.float32), batch["label"]
        drawn = network.sampler().draw(params, model_state, drawing_keys(batch), labels, jnp.float32(1.0))
        rows = evaluation_rows(judge, images, drawn)
        if not log_p_samples:
            return {"sums": {}, "rows": rows}
        log_p = network.log_p(params, network.seen(batch, None), labels, drawing_keys(batch, "log p"), log_p_samples)
        return {"sums": {"log_p": jnp.sum(jnp.where(batch["mask"], log_p, 0.0))}, "rows": {**rows, "log_p": log_p}}

    return Task(
        init=init,
        loss=loss,
        predict=network.predict,
        measure=measure,
        summary=lambda stats: {**summary(stats, bits=likelihood.discrete), **sample_metrics(judge, stats["rows"])},
        figures=network.figures,
        turns=(PLAYER,),
        metrics=(*sorted(METRICS, key=lambda metric: metric.name != bound.metric), *judge.metrics),
        logged_metrics=("reconstruction_nats", "kl_nats"),
        kept_rows=("index", "label", "elbo", "code", "log_p", *SCALAR_ROWS),
        snapshot=network.snapshot,
        sampler=network.sampler(),
        diagnosis=diagnosis,
        measure_final=final,
    )


def _noise(key: Array, number: Array, units: int) -> Array:
    """Standard normal f32 [Z] of the code with this number."""
    return jax.random.normal(jax.random.fold_in(key, number), (units,))


def _sums(draws: ElboTerms, batch: Batch) -> dict[str, Array]:
    """Over the real examples: nats of the two terms, the importance-weighted bound, and how many values the images have."""

    def over_real(each: Array) -> Array:
        return jnp.sum(jnp.where(batch["mask"], each, 0.0))

    count = jnp.sum(batch["mask"].astype(jnp.float32))
    found = {
        "log_likelihood": over_real(jnp.mean(draws.log_likelihood, axis=0)),
        "kl": over_real(jnp.sum(draws.kl, axis=1)),
        "values": count * batch["image"][0].size,
        "count": count,
    }
    if len(draws.log_likelihood) > 1:
        found["bound"] = over_real(log_mean_exp(draws.log_likelihood + draws.log_ratio))
    return found


def summary(stats: Stats, *, bits: bool) -> dict[str, float]:
    """Means over images in nats: `elbo` = −`reconstruction_nats` − `kl_nats`, `bound` of several samples, `log_p` at the end.

    `bits_per_dim` is −elbo in bits for each value of an image, where `bits` says that p is no density; `active_units` are
    those whose posterior mean varies over the images, and `decoder_slope` is how far the expected image moves (root mean
    square over codes of the prior, Euclidean distance of images in [0, 1]) as the code moves by 1 in each unit.
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
    """Says that the posterior collapsed, where no unit of the code is active."""
    if metrics.get("test/active_units", 1.0) > 0:
        return ""
    return (
        "the posterior collapsed: no unit of the code tells images apart, and the decoder draws one image for all.\n"
        "  Try a smaller --beta, --anneal=0.3 or --free_bits=0.1."
    )


PICTURED = 16
"""Test images between which the interpolations go."""
BETWEEN = 10
SPAN = 3.0
"""Standard deviations of the prior that a traversal goes to either side."""
MANIFOLD = 20
"""Codes along each side of the picture of a plane."""


def _figures(
    decode: Any, ends: np.ndarray, labels: np.ndarray, stats: Stats, data: Dataset, conditional: bool, split: str
) -> dict[str, Any]:
    """{name: figure} from codes of test images f32 [N, Z] and their labels."""
    from cnnlab import figures

    def table(codes: np.ndarray, given: np.ndarray) -> np.ndarray:
        """f32 [rows, columns, H, W, C] of codes [rows, columns, Z] and labels [rows]."""
        flat = np.asarray(decode(codes.reshape(-1, codes.shape[2]).astype(np.float32), np.repeat(given, codes.shape[1])))
        return flat.reshape(*codes.shape[:2], *flat.shape[1:])

    units, pairs = ends.shape[1], len(ends) // 2
    shares = np.linspace(0, 1, BETWEEN, dtype=np.float32)
    ways = np.stack([[slerp(ends[2 * row], ends[2 * row + 1], share) for share in shares] for row in range(pairs)])
    note = "each row from the code of one test image to that of another"
    shown = {"interpolations": figures.tiles(table(ways, labels[0 : 2 * pairs : 2]), title="Between codes", note=note)}
    if units == 2:
        names, codes = data.class_names, stats["rows"]["code"]
        shown["codes"] = figures.code_plane(codes, stats["rows"]["label"], names, title=f"Codes of the {split} images")
        # In the plane's middle, codes are as dense as the prior draws them (Kingma and Welling 2014, appendix A).
        places = jax.scipy.special.ndtri((np.arange(MANIFOLD, dtype=np.float32) + 0.5) / MANIFOLD)
        grid = np.stack(np.meshgrid(places, -places), axis=-1)
        note = "codes at even steps of the prior's distribution function"
        note += f", class {names[labels[0]]}" if conditional else ""
        shown["manifold"] = figures.tiles(
            table(grid, np.full(MANIFOLD, labels[0])), title="The plane of codes", note=note, gap=0
        )
    else:
        order = np.argsort(-np.var(stats["rows"]["code"], axis=0), kind="stable")[:BETWEEN]
        codes = np.tile(ends[0], (len(order), BETWEEN + 1, 1))
        steps = np.linspace(-SPAN, SPAN, BETWEEN + 1)
        for row, unit in enumerate(order):
            codes[row, :, unit] = steps
        shown["traversals"] = figures.tiles(
            table(codes, np.full(len(order), labels[0])),
            title="Traversals",
            note="one unit of a test image's code changes along each row; the units that vary most first",
            row_captions=[f"unit {unit}" for unit in order],
            column_captions=[f"{step:+.1f}".replace("-", "−") for step in steps],
        )
    if conditional:
        codes = np.tile(np.asarray(jax.random.normal(jax.random.key(1), (BETWEEN, units))), (data.classes, 1, 1))
        note = "one code in each column, one class in each row"
        images = table(codes, np.arange(data.classes, dtype=np.int32))
        shown["classes"] = figures.tiles(images, title="Classes", note=note, row_captions=data.class_names)
    return shown
