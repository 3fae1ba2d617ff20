"""Makes the parity fixtures: an environment for the reference libraries, then a file for each case that is not there.

    python -m tests.parity.fixtures [PART OF A NAME …]

A case is a network of cases_*.py, or `functions`: those of torch.nn.functional that test_functions.py compares, or `photos`:
the image files of ../shared/data that test_photos.py classifies, or `variations`: those of torchvision that
test_variations.py compares, or `explain`: the attributions of captum and pytorch-grad-cam that test_explain.py compares, or
`saved`: files of torch.save that test_saved.py reads, or `attacks` and `foolbox`: the attacks that test_attacks.py compares,
or `segmentation`: the networks of segmentation that test_segmentation.py compares, or `detection`: the operations of
torchvision that test_detection.py compares, or `detectors`: the networks of detection that test_detectors.py compares, or
`quantize`: the grids of torch.ao.quantization that test_quantize.py compares, or `pruning`: the masks of torch.nn.utils.prune
and the codes of bitarray that test_pruning.py compares.

Both are kept in $CNNLAB_PARITY (default: ~/.cache/cnnlab/parity). $CNNLAB_ORACLE_PYTHON names a Python that has the
libraries already. tests/parity/test_parity.py reads the fixtures and skips those that are not there.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from benchmarks.environments import NotInstalled, install, python_of
from tests.parity import cases_dense, cases_inception, cases_plain, cases_resnet
from tests.parity.cases import Case

HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(os.environ.get("CNNLAB_PARITY") or pathlib.Path.home() / ".cache" / "cnnlab" / "parity")
CASES = [*cases_plain.CASES, *cases_inception.CASES, *cases_resnet.CASES, *cases_dense.CASES]
NOT_INSTALLED = 75
"""Exit code where the reference libraries cannot be installed, or there is no room for what they make."""
NEEDED_BYTES = 8_000_000_000
"""The libraries take 1.5 GB, all fixtures 5 GB."""
SECOND_STEP = ("torchvision==0.28.0", "timm==1.0.31", "pytorchcv==0.0.74")
ATTRIBUTION = (
    ("matplotlib", "scikit-learn"),
    ("--no-deps", "captum==0.9.0", "grad-cam==1.5.7", "ttach", "opencv-python-headless"),
)
"""What the fixture of attributions needs beside them; the second part would bring another torch with it."""
PRUNING = (("bitarray==3.12.3",),)
"""What the fixture of pruning needs beside them: another coder."""
FOOLBOX = (("scipy", "GitPython", "setuptools"), ("--no-deps", "foolbox==3.3.4", "eagerpy==0.30.0"))
"""What the fixture of foolbox's attacks needs beside them."""


def request(case: Case) -> dict:
    """What the oracle is asked; the file's name changes with it, and with the oracle's own source."""
    wanted = {key: getattr(case, key) for key in ("oracle", "size", "options", "gradients", "batch", "channels")}
    told = json.dumps(wanted, sort_keys=True) + (HERE / "oracle.py").read_text(encoding="utf-8")
    return {**wanted, "file": f"{case.name}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"}


def path(case: Case) -> pathlib.Path:
    """Where the fixture of a case lies once it is made."""
    return FOLDER / f"{request(case)['file']}.npz"


def made_by(script: str, name: str) -> pathlib.Path:
    """Where the fixture lies that a script of this folder makes; its name changes with the script."""
    return FOLDER / f"{name}-{hashlib.sha256((HERE / script).read_bytes()).hexdigest()[:10]}.npz"


def functions_path() -> pathlib.Path:
    """Where the fixture of single functions lies once it is made."""
    return made_by("torch_functions.py", "functions")


def variations_path() -> pathlib.Path:
    """Where the fixture of variations lies once it is made."""
    return made_by("variations_oracle.py", "variations")


def explain_path() -> pathlib.Path:
    """Where the fixture of attributions lies once it is made."""
    return made_by("explain_oracle.py", "explain")


def photos_path() -> pathlib.Path:
    """Where the fixture of whole image files lies once it is made."""
    return made_by("photos_oracle.py", "photos")


def saved_path() -> pathlib.Path:
    """Where the fixture of files of torch.save lies once it is made."""
    return made_by("saved_oracle.py", "saved")


def attacks_path() -> pathlib.Path:
    """Where the fixture of attacks lies once it is made."""
    return made_by("attacks_oracle.py", "attacks")


def foolbox_path() -> pathlib.Path:
    """Where the fixture of foolbox's attacks lies once it is made."""
    return made_by("foolbox_oracle.py", "foolbox")


def segmentation_path() -> pathlib.Path:
    """Where the fixture of networks of segmentation lies once it is made."""
    return made_by("segmentation_oracle.py", "segmentation")


def detection_path() -> pathlib.Path:
    """Where the fixture of operations of detection lies once it is made."""
    return made_by("detection_oracle.py", "detection")


def pruning_path() -> pathlib.Path:
    """Where the fixture of masks and lengths of codes lies once it is made."""
    return made_by("pruning_oracle.py", "pruning")


def detectors_path() -> pathlib.Path:
    """Where the fixture of networks of detection lies once it is made."""
    return made_by("detectors_oracle.py", "detectors")


def quantize_path() -> pathlib.Path:
    """Where the fixture of quantisation lies once it is made."""
    return made_by("quantize_oracle.py", "quantize")


def oracle_python() -> str:
    """A Python with the reference libraries, installed into the folder on first use."""
    if given := os.environ.get("CNNLAB_ORACLE_PYTHON"):
        return given
    try:
        return python_of(FOLDER / "environment", [("-r", str(HERE / "requirements.txt")), ("--no-deps", *SECOND_STEP)])
    except NotInstalled:
        print("the reference libraries cannot be installed", file=sys.stderr)
        sys.exit(NOT_INSTALLED)


def add(name: str, packages: tuple[tuple[str, ...], ...]) -> None:
    """Installs more packages beside the reference libraries on first use, unless the Python is a given one."""
    python = oracle_python()
    if os.environ.get("CNNLAB_ORACLE_PYTHON"):
        return
    try:
        install(python, packages, FOLDER / "environment" / name)
    except NotInstalled as error:
        print(f"what the fixture `{name}` needs cannot be installed: {error}", file=sys.stderr)
        sys.exit(NOT_INSTALLED)


def make(cases: list[Case]) -> None:
    """Makes the fixtures that are not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [request(case) for case in cases if not path(case).exists()]
    if missing and shutil.disk_usage(FOLDER).free < NEEDED_BYTES:
        print(f"{FOLDER} has less than {NEEDED_BYTES / 1e9:.0f} GB free for the fixtures", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    if missing:
        command = [oracle_python(), str(HERE / "oracle.py"), str(FOLDER)]
        subprocess.run(command, input=json.dumps(missing), text=True, check=True)
    print(f"{len(cases)} fixtures in {FOLDER}, {len(missing)} of them new")


def make_by(script: str, path: pathlib.Path, *given: pathlib.Path) -> None:
    """Makes the fixture of a script, which takes the files `given` and the fixture's path, where it is not there."""
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        subprocess.run([oracle_python(), str(HERE / script), *map(str, given), str(partial)], check=True)
        partial.rename(path)


def make_photos() -> None:
    """Makes the fixture of whole image files where it is not there, and the weights and the photos are."""
    data = HERE.parents[2] / "shared" / "data"
    given = [data / "weights" / "efficientnet_lite0.safetensors", data / "photos" / "photos.tar"]
    if all(file.exists() for file in given):
        make_by("photos_oracle.py", photos_path(), *given)


if __name__ == "__main__":
    if not sys.argv[1:] or any(word in "photos" for word in sys.argv[1:]):
        make_photos()
    if not sys.argv[1:] or any(word in "functions" for word in sys.argv[1:]):
        make_by("torch_functions.py", functions_path())
    if not sys.argv[1:] or any(word in "variations" for word in sys.argv[1:]):
        make_by("variations_oracle.py", variations_path())
    if not sys.argv[1:] or any(word in "segmentation" for word in sys.argv[1:]):
        make_by("segmentation_oracle.py", segmentation_path())
    if not sys.argv[1:] or any(word in "detection" for word in sys.argv[1:]):
        make_by("detection_oracle.py", detection_path())
    if not sys.argv[1:] or any(word in "detectors" for word in sys.argv[1:]):
        make_by("detectors_oracle.py", detectors_path())
    if not sys.argv[1:] or any(word in "quantize" for word in sys.argv[1:]):
        make_by("quantize_oracle.py", quantize_path())
    if not sys.argv[1:] or any(word in "pruning" for word in sys.argv[1:]):
        if not pruning_path().exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            add("pruning", PRUNING)
        make_by("pruning_oracle.py", pruning_path())
    if not sys.argv[1:] or any(word in "explain" for word in sys.argv[1:]):
        if not explain_path().exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            add("attribution", ATTRIBUTION)
        make_by("explain_oracle.py", explain_path())
    if not sys.argv[1:] or any(word in "saved" for word in sys.argv[1:]):
        make_by("saved_oracle.py", saved_path())
    if not sys.argv[1:] or any(word in "attacks" or word in "foolbox" for word in sys.argv[1:]):
        make_by("attacks_oracle.py", attacks_path())
    if not sys.argv[1:] or any(word in "foolbox" for word in sys.argv[1:]):
        if not foolbox_path().exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            add("foolbox", FOOLBOX)
        make_by("foolbox_oracle.py", foolbox_path(), attacks_path())
    make([case for case in CASES if not sys.argv[1:] or any(word in case.name for word in sys.argv[1:])])
