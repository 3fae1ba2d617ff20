"""The section of the page that says how far the maps can be trusted: each method through each check."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.report.html import plain_table
from cnnlab.explain import checks
from cnnlab.explain.methods import METHODS, Maps
from cnnlab.explain.network import Network, in_batches
from cnnlab.explain.page import Section
from cnnlab.explain.scene import Scene

PASTED, MOST_PASTED, FEWEST_PASTED = 16, 16, 4
"""Images that are pasted into each quadrant, and the most and the fewest of those still recognised that are looked at."""
LARGE = 64
"""Side in pixels above which methods of many passes are not run again."""
MOST_PASSES = 10
"""Most passes of a method that is run again on large images."""
KEPT = 0.5
"""Rank correlation above which a map counts as one that the weights do not change."""


def section_of(scene: Scene) -> Section | str:
    """Returns the section of the checks, or the reason for which nothing can be checked."""
    if not scene.maps:
        return "no map of attribution was asked for"
    titles = {name: METHODS[name].title for name in scene.maps}
    cells: dict[str, list[str]] = {title: [] for title in titles.values()}
    # All images that are shown, so that every program which computed their maps is used again as it was compiled.
    images, target = scene.explained.examples.images, scene.explained.target
    again = _affordable(scene)
    for name, title in titles.items():
        scene.say(f"checks of {title}")
        maps = scene.methods[name]
        cells[title] += _randomized(maps, scene.network, images, target) if name in again else ["not run"] * 3
        cells[title] += _areas(scene, scene.maps[name])
    pasted = _pasted(scene)
    for name, title in titles.items():
        cells[title] += _pointing(scene, name, pasted) if name in again else ["not run"] * 2
    rows = [[title, *row] for title, row in cells.items()]
    rows.append(["random order", "–", "–", "–", *_areas(scene, checks.random_order(images.shape[:3])), "25%", "25%"])
    heads = ["Method", *checks.DEPTHS, "deletion", "insertion", "points inside", "energy inside"]
    body = plain_table(heads, rows) + _text(scene, pasted[0])
    return Section("How far to trust these maps", body, _note(cells))


def _affordable(scene: Scene) -> set[str]:
    """Returns the methods that are run again on other weights and other images."""
    is_small = max(scene.network.image_shape[:2]) <= LARGE
    return {name for name in scene.maps if is_small or METHODS[name].passes <= MOST_PASSES}


def _randomized(maps: Maps, network: Network, images: np.ndarray, target: np.ndarray) -> list[str]:
    found = checks.randomization(maps, network, jnp.asarray(images), jnp.asarray(target))
    return ["constant" if math.isnan(value) else f"{value:.2f}" for value in found]


def _areas(scene: Scene, order: np.ndarray) -> list[str]:
    """Returns the areas below deletion and insertion in an order of pixels, as cells; there are none without probabilities."""
    if not scene.opened.has_probabilities:
        return ["–", "–"]
    explained = scene.explained
    arrays = scene.opened.prediction.arrays
    curve = checks.curve_of(order, scene.network, explained.examples.images, explained.target, arrays)
    return [f"{area:.2f}" for area in curve.areas]


def _pasted(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (pasted images, bool of their quadrants, class) of those that the network still gives its class, at most 16."""
    images = scene.pool.images[:PASTED]
    size = len(scene.explained.examples)
    found = checks.tried_quadrants(scene.network, images, checks.predicted(scene.network, images, size), size)
    chosen = np.linspace(0, max(len(found[0]) - 1, 0), min(MOST_PASTED, len(found[0]))).round().astype(int)
    return found[0][chosen], found[1][chosen], found[2][chosen]


def _pointing(scene: Scene, name: str, pasted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[str]:
    images, inside, target = pasted
    if len(images) < FEWEST_PASTED:
        return ["–", "–"]
    found = in_batches(scene.methods[name], scene.network, images, target, len(scene.explained.examples))
    hits, energy = checks.pointing(found, inside)
    return [f"{hits:.0%}", "–" if math.isnan(energy) else f"{energy:.0%}"]


def _note(cells: Mapping[str, list[str]]) -> str:
    """Returns what the table shows, and which methods hardly depend on the weights."""
    kept = [title for title, row in cells.items() if row[2] not in ("constant", "not run") and float(row[2]) > KEPT]
    text = (
        "On the images above. Randomised weights: the rank correlation of |map| with that of the network whose last "
        "layer, last half or all layers have their weights in random order (after Adebayo et al. 2018); it should fall to "
        "about 0. Deletion and insertion: the area below the probability of the class while the most important pixels are "
        "replaced by the baseline first (low is good), or brought back into the blurred image (high is good; Petsiuk et al. "
        "2018). Pointing: an image stands at half its size in one quadrant of a plain picture; the share of maps whose largest "
        "value lies in it, and the share of their positive values that does; 25 % is chance."
    )
    return text + (f" Hardly dependent on the weights: {', '.join(kept)}." if kept else "")


def _text(scene: Scene, pasted: np.ndarray) -> str:
    """Returns sentences on the pasted images and on completeness, as HTML."""
    tried = 4 * min(PASTED, len(scene.pool))
    lines = [f"{len(pasted)} pasted images that the network still gives their class (at most {MOST_PASTED} of {tried})."]
    if len(pasted) < FEWEST_PASTED:
        lines[0] += f" These are too few to count where maps point; {FEWEST_PASTED} would do."
    if "integrated_gradients" in scene.maps:
        images, target = jnp.asarray(scene.explained.examples.images), jnp.asarray(scene.explained.target)
        pairs = checks.completeness(scene.maps["integrated_gradients"], scene.network, images, target)
        worst = max(abs(total - change) / max(abs(change), 1e-12) for change, total in pairs)
        listed = ", ".join(f"{total:.3g} for {change:.3g}" for change, total in pairs)
        lines.append(
            f"Completeness of integrated gradients, sum of the map for the change of the score: {listed}; the largest error "
            f"is {worst:.1%} of the change."
        )
    return "".join(f'<p class="note">{line}</p>' for line in lines)
