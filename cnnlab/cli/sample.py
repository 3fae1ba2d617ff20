"""The verb that lets a trained network make something: images, or text."""

import pathlib
from typing import Annotated, Any

from cnnlab.cli.groups import Console, Devices, Length
from cnnlab.cli.show import trained_run
from cnnlab.values import Count, NonNegative, Range, Seed, Target

Label = Annotated[int, Range(0)]


def sample(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    seed: Seed = 0,
    count: Count | None = None,
    temperature: NonNegative = 1.0,
    class_: Label | None = None,
    interpolate: bool = False,
    prompt: str | None = None,
    characters: Count = 500,
    best: bool = False,
    allow: tuple[str, ...] = (),
    to: Target | None = None,
    length: Length,
    devices: Devices,
    console: Console,
) -> int:
    """Draws images from a trained autoencoder, VAE, GAN or PixelCNN: a sheet and the images; or writes text with a writer.

    Args:
        values: the experiment's knobs; none given: those of the run in --workdir.
        experiment: experiment of the run; none: that of the run in --workdir.
        workdir: folder of the run; none: the folder in which train puts the run of these knobs.
        seed: seed of the images, and of the run where no --workdir names it.
        count: number of images, 64 if none; of texts, 1 if none.
        temperature: 1 samples the model's own distribution; lower values give images that the model considers more likely.
        class_: the class to draw, for a class-conditional model; none: all classes in turn.
        interpolate: draw rows of images that go from one code to another, instead of separate images.
        prompt: what a text begins with, of a network that writes, such as ROMEO:.
        characters: number of characters that are written after the prompt.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since the run was trained, of code, data, weights.
        to: .png file for the sheet; none: a file in the folder of the run.
        length: length of the run's training.
        devices: on what it runs.
        console: what is shown.
    """
    own = None if workdir else seed  # in a --workdir it is the seed of the images alone
    resolved, spec, folders = trained_run(values, experiment, workdir, own, length, devices, console, allow=allow)
    from cnnlab.runs.sample import SampleRequest, sample_run
    from cnnlab.runs.written import TextRequest, write_run

    where: Any = {"target": pathlib.Path(to) if to else None, "best": best}
    if prompt is None:
        images = SampleRequest(count or 64, temperature, class_, interpolate, seed)
        print(sample_run(resolved, spec, folders[own or 0], images, **where))
    else:
        texts = TextRequest(prompt, characters, count or 1, temperature, seed)
        print(write_run(resolved, spec, folders[own or 0], texts, **where))
    return 0
