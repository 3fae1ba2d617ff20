"""What devices send one another in a step: read from compiled programs, and equal to the formulas of the ring."""

from typing import Any

import jax
import pytest
from contract import TRAINED, small

from cnnlab.core import TrainState
from cnnlab.engine.parallel import STRATEGIES, fsdp_bytes, pick_devices
from cnnlab.engine.program import build_program, stack_steps
from cnnlab.inspect.traffic import Collective, collectives, step_traffic
from cnnlab.recipes.classification import classification

PROGRAM = """
HloModule jit_laid_out, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%body.1 (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %reduce.2 = f32[8]{0} reduce-scatter(%wide), channel_id=2, replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
}

ENTRY %main (a: f32[4], b: bf16[2,3]) -> f32[] {
  %one = (f32[4]{0}, bf16[2,3]{1,0}) all-reduce(%a, %b), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %two = (f32[8]{0}, f32[32]{0}) all-gather-start(%c), replica_groups=[1,4]<=[4], dimensions={0}
  %three = f32[32]{0} all-gather-done(%two)
  %four = (s32[], f32[8]) while(%state), condition=%condition.1, body=%body.1, backend_config={"known_trip_count":{"n":"3"}}
  %five = f32[5]{0} all-reduce(%d), replica_groups={{0},{1},{2},{3}}, to_apply=%add
  ROOT %six = f32[7]{0} collective-permute(%e), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
}
"""


def test_exchanges_are_read_with_their_sizes_groups_and_turns():
    found = collectives(PROGRAM, 4)
    scatter = Collective("reduce-scatter", 4 * 32, 4)
    assert found == [
        Collective("all-reduce", 4 * 4 + 2 * 6, 4),
        Collective("all-gather", 4 * 32, 4),
        *[scatter] * 3,
        Collective("collective-permute", 4 * 7, 4),
    ]
    assert [each.sent for each in found[:3]] == [2 * 3 / 4 * 28, 3 / 4 * 128, 3 / 4 * 128]
    with pytest.raises(ValueError, match="number of turns is not known"):
        collectives(PROGRAM.replace("known_trip_count", "other"), 4)


def traffic(strategy: str, devices: int, **network: Any) -> tuple[list[Collective], TrainState]:
    """The exchanges of a step of a network without batch norm, and the shapes of its state."""
    given = {"optimizer": "momentum", **(network or {"model": "mlp", "model.widths": "64,32"})}
    program = build_program(
        small(classification, TRAINED, **given)(),
        STRATEGIES[strategy](pick_devices(devices)),
        precision="f32",
    )
    feeds = program.strategy.shard_batch(stack_steps([next(program.experiment.data.train(0, 0))]))
    arguments = (program.init(0), program.step_inputs("train"), feeds)
    return step_traffic(program.phase_steps[0], *arguments, devices=devices), program.shapes


CONVOLUTIONS = {"model": "lenet5", "dataset.size": 32, "dataset.examples": 400, "batch_size": 256}
"""Their forms on a CPU work on a few images at a time, which XLA would gather on every device."""


@pytest.mark.parametrize("network", [{}, CONVOLUTIONS], ids=["mlp", "lenet5"])
def test_a_data_parallel_step_sends_its_gradients_round_a_ring_and_its_statistics(network: dict[str, Any]):
    found, shapes = traffic("jit", 8, **network)
    gradients = 4 * sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    assert {each.kind for each in found} == {"all-reduce"} and {each.devices for each in found} == {8}
    statistics = sum(each.whole for each in found) - gradients  # the sums of the loss and of what was right
    assert 0 < statistics <= 16
    assert sum(each.sent for each in found) == 2 * 7 / 8 * (gradients + statistics)


def test_one_device_sends_nothing():
    assert traffic("jit", 1)[0] == []


def test_a_fully_sharded_step_gathers_its_split_arrays_and_reduces_all_gradients():
    found, shapes = traffic("fsdp", 8)
    split = 8 * fsdp_bytes(shapes.params, 8)[0]
    gradients = 4 * sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    gathered = sum(each.whole for each in found if each.kind == "all-gather")
    reduced = sum(each.whole for each in found if each.kind in ("all-reduce", "reduce-scatter"))
    assert 0 < split <= gathered <= 2 * split, "at most once forwards and once backwards"
    assert 0 < reduced - gradients <= 16, "beside them the sums of the loss and of what was right"
