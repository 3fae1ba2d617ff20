"""The maps of attribution of the images that are shown, and their section of the page.

Letters in shapes: N images, H W space, K classes.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.report.html import escape
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.explain import render
from cnnlab.explain.examples import Examples
from cnnlab.explain.methods import METHODS, Maps
from cnnlab.explain.network import Network
from cnnlab.explain.page import Picture, Section, definitions, shown

LARGE = 96
"""Height in pixels above which images are shown larger."""


@dataclasses.dataclass(frozen=True)
class Explained:
    """The images that are shown, what the network says about them, and the class whose score is explained."""

    examples: Examples
    probabilities: np.ndarray
    """f32 [N, K]."""
    target: np.ndarray
    """i32 [N]."""
    class_names: tuple[str, ...]

    def caption(self, number: int) -> list[str]:
        """Returns lines about an image: its name, its class, the predicted class, and the explained one where it differs."""
        row, target = self.probabilities[number], int(self.target[number])
        predicted = int(np.argmax(row))
        lines = [self.examples.names[number]]
        if self.examples.labels is not None:
            lines.append(f"is {self._name(int(self.examples.labels[number]))}")
        lines.append(f"predicted {self._name(predicted)} ({row[predicted]:.2f})")
        return lines if target == predicted else [*lines, f"explained: {self._name(target)} ({row[target]:.2f})"]

    def _name(self, number: int) -> str:
        name = self.class_names[number] if 0 <= number < len(self.class_names) else str(number)
        return name.partition(",")[0]


def compute_maps(
    methods: Mapping[str, Maps], network: Network, explained: Explained, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Returns {method: maps f32 [N, H, W]} of the images that are shown."""
    images, target = jnp.asarray(explained.examples.images), jnp.asarray(explained.target)
    found = {}
    for number, (name, maps) in enumerate(methods.items(), start=1):
        say(f"{METHODS[name].title} ({number} of {len(methods)})")
        found[name] = np.asarray(maps(network, images, target))
    return found


def section_of(maps: Mapping[str, np.ndarray], explained: Explained, layers: Mapping[str, str]) -> Section:
    """Returns the table of images and maps, and what each method is.

    Args:
        maps: {method: maps f32 [N, H, W]}.
        explained: the images.
        layers: {method: name of the layer that it looks at}.
    """
    images, pictures, rows = explained.examples.shown(), [], []
    size = "large" if images.shape[1] > LARGE else ""
    for number, image in enumerate(images):
        where = f"image {number + 1}"
        own = Picture(f"image_{number + 1}", render.as_png(render.enlarged(render.image_pixels(image))), where)
        first, *more = map(escape, explained.caption(number))
        cells = [f'<td>{shown(own, size)}{first}<span class="sub">{"<br>".join(more)}</span></td>']
        pictures.append(own)
        for name, values in maps.items():
            picture, cell = _map_cell(name, values[number], image, number, size)
            pictures += [picture] if picture else []
            cells.append(f"<td>{cell}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{escape(head)}</th>" for head in ["", *(METHODS[name].title for name in maps)])
    table = (
        f'<div class="scroll"><table class="maps"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    words = [(METHODS[n].title, METHODS[n].text + (f" Layer: {layers[n]}." if n in layers else "")) for n in maps]
    note = (
        "Each map is on its own scale, whose end is written below it, so strengths compare within a map alone. Red raises the "
        "score of the class and blue lowers it; maps without signs go from dark to bright."
    )
    return Section("Attribution", table + definitions(words), note, tuple(pictures))


def _map_cell(name: str, values: np.ndarray, image: np.ndarray, number: int, size: str) -> tuple[Picture | None, str]:
    """Returns (the picture, its cell as HTML) of a map [H, W]; a map that is 0 everywhere or not finite is said."""
    method, scale = METHODS[name], render.scale_of(values)
    if not np.isfinite(values).all():
        return None, '<div class="zero">not finite</div>'
    if scale == 0:
        return None, f'<div class="zero">{escape(zero_reason(name))}</div>'
    under = image if method.is_coarse else None
    pixels = render.enlarged(render.map_pixels(values, is_signed=method.is_signed, under=under))
    picture = Picture(f"{name}_{number + 1}", render.as_png(pixels), f"{method.title} of image {number + 1}")
    return picture, f'{shown(picture, size)}<span class="sub">{"±" if method.is_signed else "up to "}{scale:.2g}</span>'


def zero_reason(name: str) -> str:
    """Returns why a map is 0 everywhere, in words."""
    if name in ("grad_cam", "grad_cam_plus_plus"):
        return "all zero: no position of the layer speaks for the class"
    return "all zero: the score does not change"


def chosen_target(text: str | None, probabilities: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns the class i32 [N] that is explained: that of --class, a number or a name, else each image's predicted one."""
    count = probabilities.shape[1]
    if text is None:
        return np.argmax(probabilities, axis=1).astype(np.int32)
    if re.fullmatch(r"\d+", text) and text not in class_names:
        if int(text) >= count:
            raise UsageError(f"--class={text}: the network has the classes 0 … {count - 1}.\nGive one of them, or a name.")
        return np.full(len(probabilities), int(text), np.int32)
    found = [number for number, name in enumerate(class_names) if name == text]
    found = found or [
        n for n, name in enumerate(class_names) if text.lower() in [part.strip().lower() for part in name.split(",")]
    ]
    if len(found) != 1:
        what = "no class of that name" if not found else f"{len(found)} classes of that name: {', '.join(map(str, found))}"
        raise UsageError(f"--class={text}: there is {what}.{did_you_mean(text, list(class_names))}\nGive a number or a name.")
    return np.full(len(probabilities), found[0], np.int32)
