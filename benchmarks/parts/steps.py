"""Training steps of eight networks: cnnlab, Flax as its examples do, and PyTorch in three ways."""

from benchmarks.measure import Worker, together
from benchmarks.settings import Settings
from benchmarks.steps.nets import NETS
from benchmarks.tables import Table, lines_of

CNNLAB, FLAX = "cnnlab", "Flax"
EAGER, CHANNELS_LAST, COMPILE = "PyTorch eager", "PyTorch channels_last", "PyTorch compile"
JAX_KINDS = {CNNLAB: "cnnlab", FLAX: "flax"}
TORCH_KINDS = {EAGER: "eager", CHANNELS_LAST: "channels_last", COMPILE: "compile"}
KINDS = "cnnlab,Flax,PyTorch eager,PyTorch channels_last,PyTorch compile"


def steps(settings: Settings, *, net: str, kinds: str = KINDS) -> Table:
    """Measures loss, gradients and update of a network; every step gets another batch from the host.

    Args:
        settings: how the benchmark was called.
        net: name of the network in NETS.
        kinds: the implementations.
    """
    workers: dict[str, Worker] = {}
    for kind in kinds.split(","):
        if kind in JAX_KINDS:
            workers[kind] = settings.worker("benchmarks.workers.steps", net=net, kind=JAX_KINDS[kind])
        elif python := None if kind == CHANNELS_LAST and not NETS[net].has_maps else settings.python_of_torch:
            cache = settings.folder / f"inductor-{net}"  # empty: the first step compiles
            environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache)}
            given = {"net": net, "kind": TORCH_KINDS[kind]}
            workers[kind] = settings.worker("benchmarks.peers.torch_work", python=python, environment=environment, **given)
    about, found = together({kind: (worker, "step") for kind, worker in workers.items()}, **settings.how)
    counts = {kind: told["parameters"] for kind, told in about.items()}
    assert len(set(counts.values())) == 1, f"{net}: the networks differ in their parameters: {counts}"
    for kind, measured in found.items():
        compiled = {told["compilations"] for told in measured.told if "compilations" in told}
        assert len(compiled) <= 1, f"{net}, {kind}: compiled again after the first steps"
    more = {kind: {"first step s": measured.first} for kind, measured in found.items()}
    title = f"{NETS[net].title}: {next(iter(counts.values())):,} parameters"
    return Table("steps", net, title, "ms", over=(EAGER, CHANNELS_LAST, COMPILE, FLAX), **lines_of(found, "ms", more))
