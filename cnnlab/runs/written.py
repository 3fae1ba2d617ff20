"""Writes texts with a trained model: `write_run` prints what follows a beginning.

Letters in shapes: N texts, P characters of the beginning.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import files
from cnnlab.engine.averages import evaluated
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.sample import keys_of
from cnnlab.runs.without_data import experiment_without_data


@dataclasses.dataclass(frozen=True)
class TextRequest:
    """The texts that are to be written."""

    prompt: str = "\n"
    """What the texts begin with."""
    characters: int = 500
    """Number of characters that are written after it."""
    count: int = 1
    temperature: float = 1.0
    """1: the model's own distribution; less: nearer to its likeliest characters, which 0 takes."""
    seed: int = 0


def write_run(
    resolved: Resolved, spec: RunSpec, folder: pathlib.Path, wanted: TextRequest, *, target: pathlib.Path | None, best: bool
) -> str:
    """Returns the texts that a run's newest checkpoint (or the best on validation) writes, and keeps them in a file.

    Text number i of a seed is the same for any number of texts. Raises UsageError for a model that does not write, and for a
    prompt with a character that the text of training has not.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folder: folder of the run.
        wanted: texts to write.
        target: the file; None: one in the run's folder.
        best: whether to restore the best checkpoint on validation instead of the newest.
    """
    experiment = experiment_without_data(resolved, folder) or run.call(resolved)
    writer, names = experiment.task.writer, experiment.data.class_names
    if writer is None:
        raise UsageError(f"--prompt: {folder} holds a run of {spec.title}, whose model writes no text. Leave it out.")
    beginning = numbers_of(wanted.prompt, names)
    _, host, step = run.restore_run(resolved, spec, folder, best=best, opens_data=False)
    keys = keys_of(wanted.seed, wanted.count, "samples")
    write = jax.jit(writer, static_argnums=5)
    numbers = write(*evaluated(host), keys, jnp.asarray(beginning), jnp.float32(wanted.temperature), wanted.characters)
    texts = [wanted.prompt + "".join(names[number] for number in row) for row in np.asarray(numbers).tolist()]
    content = "\n\n".join(texts) + "\n"
    target = target or folder / "samples" / f"text-{wanted.count}-temperature-{wanted.temperature:g}-seed-{wanted.seed}.txt"
    files.make_folder(target.parent)
    files.replace_file(target, lambda file: file.write(content.encode("utf-8")))
    return f"{content}\n{spec.title}, step {step}: temperature {wanted.temperature:g}, seed {wanted.seed}\n  in {target}"


def numbers_of(prompt: str, names: tuple[str, ...]) -> np.ndarray:
    """Returns the characters of a prompt as numbers i32 [P]; UsageError for an empty one and for unknown characters."""
    known = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(prompt) - set(known)):
        raise UsageError(
            f"--prompt: {', '.join(map(repr, unknown))} does not occur in the text of training.\n"
            f"Expected characters of {''.join(names)!r}."
        )
    if not prompt:
        raise UsageError("--prompt is empty. Expected at least one character, after which the network goes on.")
    return np.array([known[character] for character in prompt], np.int32)
