"""The tree below a folder of images: which file is an image of which class and split, and what is left out.

Every visible entry is used, refused or counted by the reason for which it is left out. Hidden entries, whose names begin with
a dot, are no part of the data set.
"""

import dataclasses
import os
import pathlib
import unicodedata

from cnnlab.data.decode import EXTENSIONS
from cnnlab.data.split_names import named_splits
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable

EXPECTED = (
    "Expected PATH/CLASS/image.png, or PATH/train/CLASS/image.png with PATH/test/… and PATH/validation/… beside it; "
    f"images end in {', '.join(EXTENSIONS)}."
)
PLACES = 3
"""Number of names that a remark gives as examples."""


@dataclasses.dataclass
class ImageTree:
    """The image files of a folder by split and class, and the entries that are left out."""

    root: pathlib.Path
    files: dict[str, dict[str, list[pathlib.Path]]] = dataclasses.field(default_factory=dict)
    """{split: {class: files, sorted}}; classes without a file are not among them."""
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """{reason: paths below the root}."""
    deeper: dict[str, int] = dataclasses.field(default_factory=dict)
    """{sub-folder of a class, below the root: number of its images, which are used}."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """Other remarks."""

    def leave_out(self, reason: str, path: pathlib.Path) -> None:
        """Records an entry that is not used."""
        self.left_out.setdefault(reason, []).append(self.name_of(path))

    def name_of(self, path: pathlib.Path) -> str:
        """Returns a path below the root as it is printed and recorded."""
        return printable(path.relative_to(self.root).as_posix())

    def remarks(self, name: str) -> list[str]:
        """Returns what to say about the tree: a sentence for what is left out and one for each thing that was guessed."""
        remarks = [f"{name}: {note}" for note in self.notes]
        if self.deeper:
            total = counted(sum(self.deeper.values()), "image")
            places = listed([f"{place}/ ({count:,})" for place, count in self.deeper.items()], PLACES)
            remarks.append(f"{name}: {total} in sub-folders of a class are used as that class: {places}")
        return remarks + self.omissions(name)

    def omissions(self, name: str) -> list[str]:
        """Returns the sentence on the entries that are left out, where there are any: their number and names by reason."""
        if not self.left_out:
            return []
        total = counted(sum(map(len, self.left_out.values())), "entry", "entries")
        reasons = [f"{reason}: {len(paths):,} ({listed(paths, PLACES)})" for reason, paths in self.left_out.items()]
        return [f"{name}: {total} left out. {'; '.join(reasons)}"]


def read_tree(root: pathlib.Path) -> ImageTree:
    """Returns the images below `root`, or raises DataError with what was found instead."""
    if not root.is_dir():
        raise DataError(f"no folder {root}.\nFound in {root.parent}: {entries(root.parent)}.\n{EXPECTED}")
    tree = ImageTree(root)
    parts = _parts(tree)
    for split, part in parts.items():
        tree.files[split] = _classes(tree, part)
    _check(tree, parts)
    return tree


def read_unlabelled(root: pathlib.Path) -> ImageTree:
    """Returns the images in any depth below `root`, whose folders are no classes: all train, or in a folder for each split."""
    if not root.is_dir():
        raise DataError(f"no folder {root}.\nFound in {root.parent}: {entries(root.parent)}.\nGive a folder of images.")
    tree = ImageTree(root)
    named = named_splits(entry.name for entry in _visible(root) if entry.is_dir())
    parts = {split: root / names[0] for split, names in named.items()} if "train" in named else {"train": root}
    for split, part in parts.items():
        tree.files[split] = {"": images_below(tree, part)}
        if not tree.files[split][""]:
            raise DataError(f"{part} has no images.\nFound: {entries(part)}.\nImages end in {', '.join(EXTENSIONS)}.")
    tree.deeper.clear()
    if parts["train"] != root:
        used = {part.name for part in parts.values()}
        for entry in _visible(root):
            if entry.name not in used:
                _leave_out(tree, entry, f"beside the folders of splits ({listed(sorted(used))})")
    return tree


def _parts(tree: ImageTree) -> dict[str, pathlib.Path]:
    """Returns {split: its folder}: folders named by splits beside a folder of training images, else the root as train."""
    folders = {entry.name: entry for entry in _visible(tree.root) if entry.is_dir()}
    named = named_splits(folders)
    if "train" not in named or not _has_classes([folders[name] for name in named["train"]]):
        # No folder of training classes: `train`, `test` or `val` may itself be a class, with its images right inside.
        nested = [name for names in named.values() for name in names if _has_classes([folders[name]])]
        if nested and (len(nested) == len(folders) or "train" in named):
            raise DataError(
                f"{tree.root} has no training split: its folders {listed(nested)} are other parts of a data set.\n"
                f"Found in {tree.root}: {entries(tree.root)}.\n{EXPECTED}"
            )
        if named:
            taken = listed([name for names in named.values() for name in names])
            tree.notes.append(f"{taken}: taken for classes, because there is no folder train/ with a sub-folder for each class")
        return {"train": tree.root}
    for split, names in named.items():
        if len(names) > 1:
            raise DataError(
                f"{tree.root} has {len(names)} folders of {split} images: {listed(names)}.\n"
                "Expected one for each of train, validation and test. Merge or rename them."
            )
    used = {names[0] for names in named.values()}
    tree.notes += [f"its folder {names[0]}/ is the {split} split" for split, names in named.items() if names[0] != split]
    for entry in _visible(tree.root):
        if entry.name not in used:
            _leave_out(tree, entry, f"beside the folders of splits ({listed(sorted(used))})")
    return {split: folders[names[0]] for split, names in named.items()}


def _has_classes(folders: list[pathlib.Path]) -> bool:
    """Returns whether all of the folders have a sub-folder."""
    return all(any(entry.is_dir() for entry in _visible(folder)) for folder in folders)


def _classes(tree: ImageTree, part: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns {class: its image files} of a split, and records everything else that the split's folder holds."""
    classes: dict[str, list[pathlib.Path]] = {}
    for entry in _visible(part):
        if not entry.is_dir():
            reason = "images without a class, in no class folder" if _is_image(entry) else _kind(entry)
            tree.leave_out(reason, entry)
            continue
        # One name for letters with accents, which macOS and Linux write in two ways.
        label = printable(unicodedata.normalize("NFC", entry.name))
        if label in classes:
            raise DataError(f"{part} has two folders of the class {label}, written with other bytes.\nMerge the folders.")
        classes[label] = _images(tree, entry)
        if not classes[label]:
            tree.leave_out("folders without images, which get no class number", entry)
    return classes


def _images(tree: ImageTree, folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images of a class in any depth below its folder; records the other entries."""
    found = images_below(tree, folder)
    splits = named_splits({path.relative_to(folder).parts[0] for path in found if path.parent != folder})
    if len(splits) > 1:
        raise DataError(
            f"{folder} has folders of several splits: {listed(name for names in splits.values() for name in names)}.\n"
            f"{EXPECTED}\nPut the folder of a split above those of its classes."
        )
    return found


def images_below(tree: ImageTree, folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image files in any depth below a folder, those of a folder sorted; `tree` records the other entries."""
    found: list[pathlib.Path] = []

    def visit(place: pathlib.Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(place)
        if real in above:
            tree.leave_out("links to a folder above them", place)
            return
        before = len(found)
        subfolders = []
        for entry in _visible(place):
            if entry.is_dir():
                subfolders.append(entry)
            elif _is_image(entry):
                found.append(entry)
            else:
                tree.leave_out(_kind(entry), entry)
        if place != folder and len(found) > before:
            tree.deeper[tree.name_of(place)] = len(found) - before
        for entry in subfolders:
            visit(entry, (*above, real))

    visit(folder, ())
    return found


def _check(tree: ImageTree, parts: dict[str, pathlib.Path]) -> None:
    """Raises DataError where train has fewer than two classes, or where a held-out split has other classes than train."""
    folders = {split: set(classes) for split, classes in tree.files.items()}
    tree.files = {split: {label: files for label, files in classes.items() if files} for split, classes in tree.files.items()}
    train = set(tree.files["train"])
    if len(train) < 2:
        raise DataError(
            f"{parts['train']} has images of {counted(len(train), 'class', 'classes')}; at least 2 are needed.\n"
            f"Found in {parts['train']}: {entries(parts['train'])}.\n{EXPECTED}\n"
            "Images without classes are read with --dataset.classes=none."
        )
    for split in [split for split in tree.files if split != "train"]:
        if unknown := sorted(set(tree.files[split]) - train):
            raise DataError(
                f"{parts[split]} has classes that {parts['train']} lacks: {listed(unknown, 5)}.\n"
                f"Expected only {listed(sorted(train), 10)}. Rename or remove the other folders."
            )
        # An empty folder says that a class has no example here; without it the class was forgotten or is spelt in another way.
        if missing := sorted(train - folders[split]):
            raise DataError(
                f"{parts[split]} lacks {counted(len(missing), 'class', 'classes')} of {parts['train']}: {listed(missing, 5)}.\n"
                "Expected the same classes in every split. Add the folders; an empty one says that there is no example."
            )


def entries(path: pathlib.Path) -> str:
    """Lists the first entries of a folder, for an error."""
    names = [entry.name + "/" * entry.is_dir() for entry in _visible(path)] if path.is_dir() else []
    return listed(names, 8) if names else "nothing"


def _visible(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the entries of a folder whose names do not begin with a dot, sorted."""
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.\nGive yourself the right to read it, or move it away."
        ) from None


def _is_image(entry: pathlib.Path) -> bool:
    """Returns whether an entry has the name of an image; a link that leads nowhere is one too, and unreadable."""
    return entry.suffix.lower() in EXTENSIONS and (entry.is_file() or entry.is_symlink())


def _kind(entry: pathlib.Path) -> str:
    """Describes an entry that is no image, by its ending."""
    if entry.is_symlink() and not entry.exists():
        return "links that lead nowhere"
    if not entry.is_file():
        return "entries that are no files"
    return f"files *{printable(entry.suffix.lower())}" if entry.suffix else "files without an ending"


def _leave_out(tree: ImageTree, entry: pathlib.Path, where: str) -> None:
    """Records an entry with the images below it."""
    if not entry.is_dir():
        tree.leave_out(f"{'images' if _is_image(entry) else _kind(entry)} {where}", entry)
        return
    paths = [pathlib.Path(above) / name for above, _, names in os.walk(entry) for name in names]
    images = [path for path in paths if _is_image(path)]
    for path in sorted(images):
        tree.leave_out(f"images {where}", path)
    if not images:
        tree.leave_out(f"folders without images {where}", entry)
