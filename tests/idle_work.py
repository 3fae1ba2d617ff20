"""A worker of the benchmark that does nothing, for test_benchmarks.py; the standard library alone."""

from benchmarks.measure import Work


def work(parameters: int, fails: bool = False) -> Work:
    """Returns a run that prints, and one that fails if asked to."""

    def step(steps: int) -> None:
        print("a library prints")
        if fails:
            raise ValueError("it cannot")

    return Work({"step": step}, {"parameters": parameters}, lambda: {"compilations": 1})
