"""Downloads and prepares one TFDS set as array_record: `python -m cnnlab.data.prepare NAME DATA_DIR`.

It runs as a separate process because preparing needs TensorFlow (pip install tensorflow importlib_resources pillow), which
training must never import. It exits with 0, or with 3 and the reason as the last line of its output.
"""

import os
import socket
import sys
import urllib.parse
import urllib.request


def unresolved(urls: list[str]) -> str | None:
    """Returns the first host of `urls` that cannot be resolved, or None; without this check TFDS retries for several minutes.

    Behind a proxy the answer is None, because the proxy resolves the names.
    """
    if urllib.request.getproxies():
        return None
    for host in dict.fromkeys(urllib.parse.urlparse(url).hostname for url in urls):
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            return host
    return None


def main(arguments: list[str]) -> int:
    """Prepares `arguments` = [name, folder]; progress goes to stderr, the reason of a failure to stdout."""
    if len(arguments) != 2:
        print("usage: python -m cnnlab.data.prepare NAME DATA_DIR")
        return 2
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, folder = arguments
    try:
        import tensorflow_datasets

        builder = tensorflow_datasets.builder(name, data_dir=folder, file_format="array_record")
        unknown = unresolved(list(getattr(builder, "url_infos", None) or ()))
        if unknown:
            print(f"no network, or no such server: the name {unknown} cannot be resolved")
            return 3
        builder.download_and_prepare()
    except Exception as error:  # TFDS, its downloader and TensorFlow raise dozens of types: all mean "not prepared"
        first = (str(error).strip().splitlines() or [""])[0]
        print(f"{type(error).__name__}: {first}")
        return 3
    sizes = ", ".join(f"{split} {part.num_examples}" for split, part in builder.info.splits.items())
    print(f"{name} is prepared in {builder.data_path}: {sizes}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
