"""The worker of the identity of a run: digests of its code and of a file of initial weights, and the plain way to them.

The plain way parses every file, walks it for its imports and writes it out by the standard library, and reads every byte of
the weights. jax is loaded as in a run, since garbage collection then takes longer.
"""

import ast
import itertools
import os
import pathlib
import time

import jax  # noqa: F401

from benchmarks.measure import ROOT, Work
from cnnlab import sources
from cnnlab.digests import digest, file_digest
from cnnlab.runs import weights_digest


def plainly(files: list[pathlib.Path]) -> None:
    """Digests code without a cache, by the standard library alone."""
    for file in files:
        tree = ast.parse(file.read_bytes())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        digest([ast.dump(tree), *map(ast.dump, imports)])


def work(experiment: str, folder: str, megabytes: int) -> Work:
    """Returns the runs, each of one call; those with an empty cache give the cache to those with a filled one."""
    path, weights = ROOT / "experiments" / f"{experiment}.py", pathlib.Path(folder) / "weights.bin"
    weights.write_bytes(os.urandom(megabytes * 1_000_000))
    time.sleep(weights_digest.SETTLED + 1.0)  # the digest of a file that was written just now is not kept
    found = [ROOT / name for name in sources.code_digests(path)]
    numbers = itertools.count()

    def emptied(steps: int) -> None:
        os.environ["XDG_CACHE_HOME"] = str(pathlib.Path(folder) / f"cache-{next(numbers)}")
        sources.code_digests(path)

    return Work(
        {
            "code, empty cache": emptied,
            "code, filled cache": lambda steps: sources.code_digests(path),
            "code, plain way": lambda steps: plainly(found),
            "weights, empty cache": lambda steps: weights_digest.content_digest(weights),
            "weights, filled cache": lambda steps: weights_digest.content_digest(weights),
            "weights, plain way": lambda steps: file_digest(weights),
        },
        {"files": len(found)},
    )
