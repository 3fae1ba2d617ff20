"""The verb cache: what decoded data take on the disk. Imports no jax."""

import time

from cnnlab import home
from cnnlab.cli.groups import Console
from cnnlab.text import counted, format_bytes, format_duration


def cache(*, clear: bool = False, console: Console) -> int:
    """Shows the cache of decoded data with its size and its limit, or deletes it.

    Args:
        clear: delete all entries; the next run makes again what it needs.
        console: what is shown.
    """
    from cnnlab.data import cache as data_cache

    folder = data_cache.cache_dir()
    if clear:
        count, size = data_cache.clear()
        print(f"{folder}: {counted(count, 'entry', 'entries')} deleted, {format_bytes(size)}")
        return 0
    found, now = data_cache.entries(), time.time()
    limit = f"at most {format_bytes(data_cache.limit())} (${data_cache.LIMIT_VARIABLE}, in GiB)"
    total = format_bytes(sum(entry.size for entry in found))
    print(f"{folder}: {counted(len(found), 'entry', 'entries')}, {total} of {limit}")
    for entry in reversed(found):
        used = f"{format_duration(max(now - entry.used, 0))} ago"
        print(f"{format_bytes(entry.size):>11}  {used:>15}  {entry.folder.name}  {entry.about}".rstrip())
    if found:
        print(f"Delete all of it: {home.COMMAND} cache --clear")
    return 0
