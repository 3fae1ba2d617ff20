"""The catalogue of experiments, models and data sets. It is read from the sources, none of which is imported."""

import ast
import itertools
import pathlib

from cnnlab import home

FAMILIES = {
    "models": "MODELS",
    "networks of segmentation": "SEGMENTERS",
    "networks of detection": "DETECTORS",
    "networks of localisation": "LOCALIZERS",
    "autoencoders": "AUTOENCODERS",
    "variational autoencoders": "VAES",
    "vector-quantised autoencoders": "VQ_VAES",
    "adversarial pairs": "GANS",
    "models of one pixel after another": "PIXEL_MODELS",
    "networks that write": "WRITERS",
}
"""Titles in `list` of the dicts of cnnlab/models/."""


def catalogue() -> dict[str, dict[str, str]]:
    """Returns {title: {name: description in one line}} of everything that can be named on the command line."""

    def described(files: dict[str, pathlib.Path]) -> dict[str, str]:
        """Returns {name: first line of the file's docstring}."""
        return {
            name: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            for name, path in files.items()
        }

    families = {title: _options("models", variable) for title, variable in FAMILIES.items()}
    measured = {"measurements of claims (measure)": described(measurement_files())}
    data = {"texts": _options("data", "TEXTS"), "data sets": _options("data", "DATASETS")}
    return {"experiments": described(experiment_files()), **measured, **families, **data}


def experiment_files() -> dict[str, pathlib.Path]:
    """Returns experiments by name: the files of experiments/ and its folders that define `experiment` at the top level.

    Files that define a measurement are no experiments, whatever else they define.
    """
    return {name: path for name, (path, is_measurement) in _launchable().items() if not is_measurement}


def measurement_files() -> dict[str, pathlib.Path]:
    """Returns the measurements of claims by name: the files of experiments/ and its folders that define `measurement`."""
    return {name: path for name, (path, is_measurement) in _launchable().items() if is_measurement}


def launchable_files() -> dict[str, pathlib.Path]:
    """Returns experiments and measurements by name; the files are read once for both."""
    return {name: path for name, (path, _) in _launchable().items()}


def _launchable() -> dict[str, tuple[pathlib.Path, bool]]:
    """Returns {name: (path, whether it is a measurement)} of the files below experiments/ that a command can name."""
    found = {}
    for path in sorted(home.EXPERIMENTS.rglob("*.py")):
        defined: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            defined |= {node.name} if isinstance(node, ast.FunctionDef) else set()
            defined |= {t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)}
        if defined & {"experiment", "measurement"}:
            found[path.stem] = (path, "measurement" in defined)
    return found


def _options(room: str, variable: str) -> dict[str, str]:
    """Returns {key: first line of its docstring} of the dict literal `variable` in a file of cnnlab/<room>/."""
    # First the docstrings of the room's functions, classes and assigned partials, then the keys that name them.
    docs: dict[str, str] = {}
    bodies = {path: ast.parse(path.read_text(encoding="utf-8")).body for path in sorted((home.PACKAGE / room).glob("*.py"))}
    for path, body in bodies.items():
        for node, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                name, text = node.name, ast.get_docstring(node) or ""
            elif isinstance(node, ast.Assign) and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                name, text = _name(node.targets[0]), str(following.value.value)
            else:
                continue
            docs[name] = docs[f"{path.stem}.{name}"] = text.partition("\n")[0]
    for node in itertools.chain(*bodies.values()):
        if isinstance(node, ast.Assign) and _name(node.targets[0]) == variable and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {
                ast.literal_eval(key): docs.get(ast.unparse(value), docs.get(_name(value), "")) for key, value in pairs if key
            }
    raise AssertionError(f"no file of cnnlab/{room}/ has a dict literal {variable}")


def _name(node: ast.expr) -> str:
    """Returns `f` for the expressions `f` and `module.f`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
