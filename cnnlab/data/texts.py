"""Texts from which a network learns to write: a file, a text set of TFDS, or the documentation that comes with Python."""

import dataclasses
import pathlib

from cnnlab.data.tfds_sets import prepared_builder
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.values import PathText


@dataclasses.dataclass(frozen=True)
class Text:
    """A text in one piece."""

    name: str
    content: str

    @property
    def fingerprint(self) -> str:
        """Changes with the text."""
        return combined_digest("text", self.content)


def python_topics() -> Text:
    """Returns the reference that Python's `help()` shows, 700,000 characters or more; it differs between versions of Python."""
    from pydoc_data.topics import topics

    return Text("python_topics", "\n".join(topics[name] for name in sorted(topics)))


def text_file(path: PathText, /) -> Text:
    """Reads a text file in UTF-8; raises DataError for one that is missing, empty or no text."""
    file = pathlib.Path(path)
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"file:{path}: {error.strerror or error}.\nExpected a text file in UTF-8.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"file:{path} is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}.\n"
            "Convert it, such as by `iconv -f latin1 -t utf-8`."
        ) from None
    if not content:
        raise DataError(f"file:{path} is empty. Expected a text file in UTF-8.")
    return Text(f"file:{path}", content)


def tfds_text(name: str, /, *, data_dir: str | None = None) -> Text:
    """Reads a text set of TFDS, such as tiny_shakespeare: the texts of all examples, train before validation before test.

    Args:
        data_dir: folder of prepared sets; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    """
    builder = prepared_builder(name, data_dir)
    if "text" not in builder.info.features:
        raise DataError(
            f"tfds:{name} has no feature `text`; it has {', '.join(builder.info.features)}.\n"
            "Expected a set of texts, such as tiny_shakespeare."
        )
    splits = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    examples = [example["text"] for split in splits for example in builder.as_data_source(split)]
    return Text(f"tfds:{name}", "".join(text.decode("utf-8") for text in examples))


TEXTS = {"python_topics": python_topics, "file": text_file, "tfds": tfds_text}
"""The functions that open a text, by name; those of `file:PATH` and `tfds:NAME` take what follows."""
