"""The parts that are measured only when they are named: layers, memory, variations, checkpoints, sampling, files, long runs."""

import json
import pathlib
import shutil
import subprocess
import sys

from benchmarks.measure import ROOT, Measured, Worker, WorkerFailed, together
from benchmarks.settings import Settings
from benchmarks.tables import Line, Table, lines_of


def norms(settings: Settings, *, shape: str) -> Table:
    """Measures batch normalisation: shifted moments (ours, whose variance keeps its digits), plain ones, and Flax's layer."""
    worker = settings.worker("benchmarks.workers.norms", shape=[int(side) for side in shape.split("x")])
    _, found = together({name: (worker, name) for name in ("shifted", "plain", "Flax")}, **settings.how)
    title = f"Batch normalisation of {shape}, forward and backward"
    return Table("norms", shape, title, "ms", over=("plain",), **lines_of(found, "ms"))


def remat(settings: Settings, *, model: str = "cifar_resnet20", size: int = 32, batch: int = 64) -> Table:
    """Measures what --remat saves: a CPU keeps in one memory what `offload` moves, and XLA does not tell them apart there.

    Args:
        settings: how the benchmark was called.
        model: network.
        size: side of the images.
        batch: images of a step.
    """
    worker = settings.worker("benchmarks.workers.remat", model=model, size=size, batch=batch)
    about, found = together({mode: (worker, mode) for mode in worker.about["temporaries"]}, **settings.how)
    more = {mode: {"temporaries MB": told["temporaries"][mode]} for mode, told in about.items()}
    title = f"--remat: {model}, {batch} images of {size}x{size}"
    return Table("remat", "modes", title, "ms", over=("none",), **lines_of(found, "ms", more))


def sampling(settings: Settings, *, size: int, model: str = "pixelcnn", width: int = 16, images: int = 16) -> Table:
    """Measures drawing images pixel by pixel; the ratio to `pass` is how many evaluations of the network take as long.

    Args:
        settings: how the benchmark was called.
        size: side of the images.
        model: network of PIXEL_MODELS.
        width: of the network.
        images: number that is drawn at once.
    """
    worker = settings.worker("benchmarks.workers.sampling", model=model, width=width, size=size, images=images)
    _, found = together({name: (worker, name) for name in ("pass", "cached", "naive")}, **settings.how)
    title = f"{model} of width {width}: {images} images of {size}x{size} at once"
    return Table("sampling", str(size), title, "ms", over=("pass", "cached"), **lines_of(found, "ms"))


def variations(settings: Settings, *, names: str, size: int = 32, batch: int = 512) -> Table:
    """Measures varying a batch on one core; torchvision loops over the images, and more cores divide that loop.

    Args:
        settings: how the benchmark was called.
        names: variations of AUGMENTS.
        size: side of the images.
        batch: number of images.
    """
    given = {"names": names, "size": size, "batch": batch}
    workers = {"cnnlab": Worker("benchmarks.workers.variations", given, cores=settings.cores[:1])}
    if python := settings.python_of_torch:
        workers["torchvision"] = Worker("benchmarks.peers.torchvision_work", given, cores=settings.cores[:1], python=python)
    _, found = together({name: (worker, "vary") for name, worker in workers.items()}, **settings.how)
    title = f"{names}: {batch} images of {size}x{size}x3 on one core"
    return Table("variations", names.replace(",", "+"), title, "ms", over=("torchvision",), **lines_of(found, "ms"))


def checkpoint(settings: Settings, *, width: float = 1.0, folder: str = "") -> Table:
    """Measures how long a save keeps training waiting, and a restore takes; each round waits until the files are written.

    Args:
        settings: how the benchmark was called.
        width: multiple of ResNet-50's channels.
        folder: where the checkpoints are written, on the disk that is of interest; empty: a temporary folder.
    """
    place = str(pathlib.Path(folder or settings.folder).resolve() / "checkpoints")
    worker = settings.worker("benchmarks.workers.checkpoint", width=width, folder=place)
    how = {**settings.how, "rounds": settings.rounds + 1, "seconds": 0}
    about, found = together({"round": (worker, "round")}, **how)
    by_part = told_by_part(found["round"])
    size = about["round"]["mb"] if about else 0.0
    lines = [Line(name, values) for name, values in by_part.items()]
    remarks = [found["round"].failed] if found["round"].failed else []
    return Table("checkpoint", "resnet50", f"ResNet-50 with momentum, {size:.0f} MB", "s", lines, remarks=remarks)


def told_by_part(measured: Measured) -> dict[str, list[float]]:
    """Returns what a worker told, {name: numbers by round}, without the first round, which warms up."""
    rounds = measured.told[1:]
    return {name: [told[name] for told in rounds] for name in (rounds[0] if rounds else {})}


def streaming(
    settings: Settings, *, images: int = 1500, image_size: int = 224, batch_size: int = 64, draft: int = 0, folder: str = ""
) -> Table:
    """Measures reading a folder of JPEGs: streamed at first, from the cache that this fills, and the same images in memory.

    Args:
        settings: how the benchmark was called.
        images: number of JPEGs of 224 to 500 pixels that are made.
        image_size: size to which they are brought.
        batch_size: images of a batch.
        draft: size that JPEGs keep when they are decoded at a part of theirs; 0: they are decoded whole.
        folder: a folder of images, a sub-folder for each class; empty: JPEGs are made.
    """
    from benchmarks.workers.streaming import make_images

    place = pathlib.Path(folder) if folder else settings.folder / "images"
    if not folder:
        make_images(place, images)
    given = {"folder": str(place), "image_size": image_size, "batch_size": batch_size, "draft": draft or None}
    environment = {"XDG_CACHE_HOME": str(settings.folder / "streamed"), "JAX_PLATFORMS": "cpu"}
    found: dict[str, list[dict]] = {}
    for _ in range(1 if settings.quick else 3):
        shutil.rmtree(environment["XDG_CACHE_HOME"], ignore_errors=True)
        for name, kind in (("at first", "streamed"), ("from the cache", "streamed"), ("in memory", "resident")):
            worker = settings.worker("benchmarks.workers.streaming", environment=environment, kind=kind, **given)
            _, measured = together({name: (worker, "read")}, rounds=1, seconds=0, say=settings.say)
            if measured[name].failed:
                raise WorkerFailed(measured[name].failed)
            found.setdefault(name, []).append(dict(measured[name].told[0]))
    assert len({told["digest"] for rounds in found.values() for told in rounds}) == 1, "streamed and resident images differ"
    lines = []
    for name, rounds in found.items():
        last = rounds[-1]
        columns = {"check": "check", "build": "build", "images/s": "images_per_second", "peak MiB": "peak_mib"}
        more = {head: last[key] for head, key in columns.items()}
        lines.append(Line(name, [told["epoch"] for told in rounds], [], more))
    title = f"CPU time of an image of an epoch, JPEGs at {image_size} pixels; check and build are ms of CPU an image too"
    return Table("streaming", "jpegs", title, "ms", lines)


def identity(settings: Settings, *, experiment: str = "lenet5_digits", megabytes: int = 100) -> Table:
    """Measures the identity of a run: digests of its code and of a file of initial weights, in seconds of the processor.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/.
        megabytes: size of the file of weights.
    """
    folder = settings.folder / "identity"
    folder.mkdir()
    given = {"experiment": experiment, "folder": str(folder), "megabytes": megabytes}
    worker = settings.worker("benchmarks.workers.identity", **given)
    names = [f"{what}, {how}" for what in ("code", "weights") for how in ("empty cache", "filled cache", "plain way")]
    _, found = together({name: (worker, name) for name in names}, **{**settings.how, "seconds": 0})
    return Table("identity", experiment, f"{experiment}: the identity of a run", "s", **lines_of(found, "s"))


def soak(settings: Settings, *, experiment: str = "mlp_digits", steps: int = 20_000) -> Table:
    """Measures whether the memory of a long run is flat: the slope over the last half of its steps (benchmarks/soak.py).

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/.
        steps: length of the run.
    """
    words = [sys.executable, "-m", "benchmarks.soak", f"--steps={steps}", f"--experiment={experiment}", "--most=inf"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    line = Line(experiment, [told["last_mb"]], [], {"MB for 10,000 steps": told["mb_per_10000_steps"]})
    return Table("soak", experiment, f"Resident memory after {steps:,} steps", "MB", [line])
