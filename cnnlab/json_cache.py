"""Small results that take long to compute again, in JSON files below the user's cache folder. Imports no jax."""

from typing import Any

from cnnlab import files, home
from cnnlab.errors import DamagedFile, DiskError


class JsonCache:
    """A dictionary in `$XDG_CACHE_HOME/cnnlab/NAME.json`, by default below ~/.cache; it is safe to delete at any time."""

    def __init__(self, name: str, *, most: int) -> None:
        """Reads the cache; one that is missing or damaged is empty.

        Args:
            name: name of the file without its suffix.
            most: number of entries above which those that this process did not use are dropped.
        """
        self.path, self.most = home.cache_folder() / f"{name}.json", most
        try:
            known = files.read_record(self.path)
        except DamagedFile:
            known = None
        self.known: dict[str, Any] = known or {}
        self.used: dict[str, Any] = {}
        self.is_new = False

    def get(self, key: str) -> Any:
        """Returns the value of a key, or None."""
        found = self.used.get(key, self.known.get(key))
        if found is not None:
            self.used[key] = found
        return found

    def put(self, key: str, value: Any) -> None:
        """Keeps a value, which `save` writes."""
        self.used[key], self.is_new = value, True

    def save(self) -> None:
        """Writes what is new; where that fails, the next process computes it again."""
        if not self.is_new:
            return
        content = self.used if len(self.known) > self.most else {**self.known, **self.used}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_record(self.path, content)
        except (OSError, DiskError):
            return
        self.is_new = False
