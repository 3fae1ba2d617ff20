"""Explains one network: chooses images, computes what suits the network, and writes the page with its pictures."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from cnnlab import files
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.explain import activations, attributions, embedding, filters, methods, patches, trust
from cnnlab.explain.attributions import Explained
from cnnlab.explain.examples import chosen, read_examples
from cnnlab.explain.methods import METHODS, Maps
from cnnlab.explain.network import Layer, scores
from cnnlab.explain.opening import Opened
from cnnlab.explain.page import Section, whole_page
from cnnlab.explain.scene import Scene
from cnnlab.text import counted

PAGE = "explain.html"
"""Name of the page in its folder."""
PARTS: dict[str, tuple[str, Callable[[Scene], Section | str]]] = {
    "checks": ("Checks of the maps", trust.section_of),
    "filters": ("Filters", filters.section_of),
    "activations": ("Activations", activations.section_of),
    "patches": ("What excites a unit", patches.section_of),
    "embedding": ("Embedding", embedding.section_of),
}
"""Parts of the page beside the attributions: {name: (title, function)}, which returns the section, or why there is none."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be explained."""

    what: tuple[str, ...] = ()
    """Names of METHODS and PARTS; (): all that suit the network."""
    images: tuple[str, ...] = ()
    """Where the images are (`predict.find.find_images`); (): the held-out split of the run."""
    target: str | None = None
    """Number or name of the class; None: the predicted one of each image."""
    layer: str | None = None
    """Name of a layer; None: the last one with several positions."""
    count: int = 6
    """Number of images that are shown."""


def check_names(what: Sequence[str]) -> None:
    """Raises UsageError where a name of --what is unknown."""
    known = [*METHODS, *PARTS]
    for name in what:
        if name not in known:
            raise UsageError(
                f"--what={name}: there is no such part.{did_you_mean(name, known)}\nThere are: {', '.join(known)}."
            )


def explain(opened: Opened, request: Request, target: pathlib.Path, *, say: Callable[[str], None] = lambda text: None) -> str:
    """Writes the page and its pictures into a folder; returns what to print about it.

    Args:
        opened: the network.
        request: what is shown.
        target: the folder.
        say: is called with what is done next.
    """
    network = opened.network
    layer = network.layer(request.layer) if request.layer else None
    wanted = request.what or (*METHODS, *PARTS)
    say("reading images")
    pool = read_examples(opened, request.images)
    shown = chosen(pool, request.count)
    probabilities = opened.probabilities(np.asarray(scores(network, jnp.asarray(shown.images))), shown.images)
    aimed = attributions.chosen_target(request.target, probabilities, opened.class_names)
    explained = Explained(shown, probabilities, aimed, opened.class_names)
    chosen_methods, left_out = fitted_methods([name for name in wanted if name in METHODS], opened, shown.images, layer)
    if request.what and left_out:
        raise UsageError("; ".join(f"--what={name}: {reason}" for name, reason in left_out.items()) + ".\nLeave it out.")
    sections = []
    maps = attributions.compute_maps(chosen_methods, network, explained, say)
    titles = {METHODS[name].title: reason for name, reason in left_out.items()}
    if maps:
        layers = {name: one.keywords["layer"].name for name, one in chosen_methods.items() if hasattr(one, "keywords")}
        sections.append(attributions.section_of(maps, explained, layers))
    scene = Scene(opened, pool, explained, layer, chosen_methods, maps, say)
    for name in [name for name in wanted if name in PARTS]:
        title, part = PARTS[name]
        made = part(scene)
        if isinstance(made, Section):
            sections.append(made)
        elif request.what:
            raise UsageError(f"--what={name}: {made}.\nLeave it out.")
        else:
            titles[title] = made
    return _write(target, opened, explained, sections, titles)


def fitted_methods(
    names: Sequence[str], opened: Opened, images: np.ndarray, layer: Layer | None
) -> tuple[dict[str, Maps], dict[str, str]]:
    """Returns ({method: its function}, {method: the reason for which it does not suit the network}).

    Args:
        names: names of METHODS.
        opened: the network.
        images: some images f32 [N, H, W, C], normalised.
        layer: layer that was asked for; None: each method takes its usual one.
    """
    if layer is not None and not layer.is_spatial and any(METHODS[name].looks_at == "layer" for name in names):
        spatial = [one.name for one in opened.network.layers if one.is_spatial and one.is_returned]
        raise UsageError(
            f"--layer={layer.name}: Grad-CAM needs a layer with several positions, and this one has {list(layer.shape)}.\n"
            f"Take one of {', '.join(spatial) or 'another network'}."
        )
    found: dict[str, Maps] = {}
    left_out: dict[str, str] = {}
    for name in names:
        made = methods.fitted(name, opened.network, images, layer)
        if isinstance(made, str):
            left_out[name] = made
        else:
            found[name] = made
    return found, left_out


def _write(
    target: pathlib.Path, opened: Opened, explained: Explained, sections: Sequence[Section], left_out: dict[str, str]
) -> str:
    """Writes the page and the pictures; returns what to print."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"--to={target} is a file, expected a folder for the page and its pictures.\nGive another one.")
    files.make_folder(target)
    count = 0
    for one in sections:
        for picture in one.pictures:
            files.write_bytes(target / f"{picture.name}.png", picture.png)
            count += 1
    facts = [*opened.facts, ("Images", f"{len(explained.examples)} of {explained.examples.source}"), baseline(opened)]
    lead = "What the network looks at, layer by layer, and how far each picture can be trusted."
    files.write_text(target / PAGE, whole_page(opened.title, lead, facts, sections, left_out))
    return f"{target / PAGE}: {counted(len(sections), 'part')}, and {counted(count, 'picture')} beside it"


def baseline(opened: Opened) -> tuple[str, str]:
    """Returns the fact about the colour that the network sees as 0, from which attributions are measured."""
    unit = 255.0 if opened.inputs.dtype == "uint8" else 1.0
    means = np.asarray(opened.inputs.subtract, np.float64).mean(axis=(0, 1, 2)) / unit  # [1, H, W, C] -> [C]
    return "Baseline", f"the pixel that the network sees as 0: {', '.join(f'{mean:.3g}' for mean in means)} in [0, 1]"
