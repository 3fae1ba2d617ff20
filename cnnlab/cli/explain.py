"""The verb that looks inside a trained network: explain."""

import pathlib

from cnnlab.cli.common import setup_jax
from cnnlab.cli.groups import Console, Devices, Length
from cnnlab.cli.show import trained_run
from cnnlab.errors import UsageError
from cnnlab.values import Count, Entries, Target


def explain(
    values: dict[str, str],
    /,
    *,
    workdir: Target | None = None,
    what: tuple[str, ...] = (),
    images: Entries = (),
    class_: str | None = None,
    layer: str | None = None,
    count: Count = 6,
    to: Target | None = None,
    best: bool = False,
    allow: tuple[str, ...] = (),
    devices: Devices,
    console: Console,
) -> int:
    """Looks inside a trained network: which pixels a class depends on, with checks of the maps; one HTML page.

    The network is that of a run, or --model=NAME with --init_from=FILE, and then --class_names=FILE, --image_size,
    --image_fit, --normalize and the knobs of the model say the rest. Without --images the page shows held-out images.

    Args:
        values: without --workdir, the network: model, init_from and what goes with them.
        workdir: folder of the run.
        what: parts of the page, such as grad_cam,occlusion; none: everything that suits the network.
        images: a folder (any depth), image files or FILE.npz; several are separated by commas, or the flag is given again.
        class_: class whose score is explained, by number or name; none: the predicted class of each image.
        layer: layer that Grad-CAM looks at; none: the last one with several positions.
        count: number of images that are shown.
        to: folder for the page and its pictures; none: explain in the folder of the run, or runs/explain-MODEL.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since the run was trained, of code, data, weights.
        devices: precision and data of the run; explanations are computed in f32 on one device.
        console: what is shown.
    """
    _require_one_network(values, workdir, images)
    setup_jax(devices.fake_devices)
    from cnnlab.explain import command, opening
    from cnnlab.progress import ProgressLine

    command.check_names(what)
    line = ProgressLine(quiet=console.quiet)
    line.show("explain: opening the network …")
    if workdir:
        resolved, spec, folders = trained_run({}, None, workdir, None, Length(), devices, console, allow=allow, starts=False)
        (folder,) = folders.values()
        opened = opening.open_run(resolved, spec, folder, best=best, with_data=not images)
    else:
        opened = opening.open_imported(values)
    usual = opened.folder / "explain" if opened.folder else pathlib.Path(f"runs/explain-{opened.title}")
    target = pathlib.Path(to) if to else usual
    request = command.Request(what, tuple(images), class_, layer, count)
    text = command.explain(opened, request, target, say=lambda said: line.show(f"explain: {said} …"))
    line.erase()
    print(text)
    return 0


def _require_one_network(values: dict[str, str], workdir: str | None, images: tuple[str, ...]) -> None:
    """Raises UsageError where the flags name two networks, or one of no run without images."""
    if workdir and values:
        given = ", ".join(f"--{name}" for name in values)
        raise UsageError(f"explain: {given} and --workdir both say which network. Leave one out.")
    if not workdir and not images and "init_from" in values:
        raise UsageError("explain: a network that is no run has no images. Add --images=FOLDER, image files or FILE.npz.")
