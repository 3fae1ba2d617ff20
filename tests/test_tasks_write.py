"""Texts: how they are cut, the state that is carried from window to window, what is measured, what is refused."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.data.text_windows import measured_places, text_windows, windows_of
from cnnlab.data.texts import TEXTS, Text, python_topics, text_file, tfds_text
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import DataError, UsageError
from cnnlab.models.writer import RecurrentWriter
from cnnlab.ops import init
from cnnlab.recipes.writing import counted_ngrams, writing
from cnnlab.tasks.ngram import ngram
from cnnlab.tasks.write import write

LINE = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. "


def cut(content=LINE * 4, **knobs):
    data = text_windows(dataset=lambda: Text("lines", content), **{"batch_size": 3, "window": 7, **knobs})
    return data, windows_of(data, context=knobs.get("context", 128), measured=knobs.get("measured", 256))


def spelled(data, numbers):
    return "".join(data.class_names[number] for number in np.asarray(numbers) if number >= 0)


def test_a_step_goes_on_where_the_one_before_ended_in_every_stream():
    data, windows = cut(validation=0.2)
    text, feeds = LINE * 4, data.train(5, 0)
    whole = round(0.8 * len(text))
    assert windows.each == (whole - 1) // 3 // 7 and data.sizes["train"] == 3 * windows.each
    rows = data.resident["train"]["text"]
    for step in range(2 * windows.each):
        index = next(feeds)["index"]
        for stream, place in enumerate(index):
            start = 7 * (stream * windows.each + step % windows.each)
            assert spelled(data, rows[place]) == text[start : start + 8]
    np.testing.assert_array_equal(next(data.train(0, 2))["index"], next(data.train(9, windows.each + 2))["index"])


@pytest.mark.parametrize(("context", "measured", "length"), [(6, 8, 40), (6, 8, 43), (0, 5, 21), (20, 9, 15), (3, 4, 2)])
def test_every_character_that_is_held_out_is_measured_once_after_as_much_context(context, measured, length):
    data, windows = cut(LINE * 2 + "x" * length, context=context, measured=measured, validation=0.0, test=0.15)
    size = len(LINE * 2) + length
    held = (LINE * 2 + "x" * length)[round(0.85 * size) :]
    batch = {**data.resident["test"], "index": np.arange(data.sizes["test"]), "mask": np.ones(data.sizes["test"], bool)}
    counted = np.asarray(measured_places(batch, windows))
    assert counted.sum() == len(held) - 1 and (counted[1:].argmax(1) >= context).all()
    found = "".join(spelled(data, row[1:][chosen]) for row, chosen in zip(batch["text"], counted, strict=True))
    assert found == held[1:]
    training = {"text": data.resident["train"]["text"][:3], "index": np.arange(3), "mask": np.ones(3, bool)}
    assert np.asarray(measured_places(training, windows)).all()  # though held-out windows may be as long


def test_windows_with_their_states_give_what_one_long_window_gives_and_an_epoch_begins_anew():
    data, windows = cut(validation=0.0, test=0.1)
    model = RecurrentWriter(len(data.class_names), widths=(5, 4))
    task = write(model, windows=windows)
    batches = []
    for feed in (feeds := data.train(0, 0)):
        batches.append(data.prepare(data.resident["train"], jax.tree.map(jnp.asarray, feed), None))
        if len(batches) > windows.each:
            feeds.close()
            break
    params, state = jax.jit(task.init)(jax.random.key(0), batches[0])
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state))
    loss = jax.jit(functools.partial(task.loss, player="writer"))
    apart = []
    for batch in batches[:-1]:
        value, (state, _) = loss(params, state, batch, jax.random.key(1))
        apart.append(float(value))
    long = jnp.concatenate([batch["text"][:, :-1] for batch in batches[:-1]], axis=1)  # [B, T] of each -> [B, each · T]
    after = jnp.concatenate([batch["text"][:, 1:] for batch in batches[:-1]], axis=1)
    logits = jax.jit(task.predict)(params, {}, long)
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), after[..., None], axis=-1)
    assert np.mean(apart) == pytest.approx(float(nats.mean()), rel=1e-6)
    again, _ = loss(params, state, batches[-1], jax.random.key(1))  # the first window again, whatever the state
    assert float(again) == pytest.approx(apart[0], rel=1e-6)


def test_a_network_that_knows_nothing_has_the_entropy_of_the_uniform_and_bits_are_nats_over_their_logarithm():
    made = knobs.resolve(writing, {"dataset": "python_topics", "model.output_initializer": "zeros"}, {"data_dir": None}).call()
    data = made.data
    batch = data.prepare(data.resident["validation"], {"index": jnp.arange(2), "mask": jnp.array([True, False])}, None)
    params, state = jax.jit(made.task.init)(jax.random.key(0), batch)
    numbers = made.task.summary(jax.device_get(jax.jit(made.task.measure)(params, state, batch)))
    assert numbers["bits_per_character"] == pytest.approx(np.log2(len(data.class_names)), rel=1e-6)
    assert numbers["loss"] == pytest.approx(np.log(len(data.class_names)), rel=1e-6)
    assert {"e", " ", "\n"} <= set(data.class_names) and len(python_topics().content) > 400_000


def test_what_is_no_text_is_one_clear_error(tmp_path: pathlib.Path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"missing.txt: No such file"):
        text_file(str(tmp_path / "missing.txt"))
    with pytest.raises(DataError, match=r"empty.txt is empty"):
        text_file(str(tmp_path / "empty.txt"))
    with pytest.raises(DataError, match=r"latin.txt is no text in UTF-8: byte 3 is 0xe9.\nConvert it"):
        text_file(str(tmp_path / "latin.txt"))
    with pytest.raises(UsageError, match=r"lines: 57 characters to train on, too few for 3 x 64.\nGive a longer text"):
        cut("abc" * 19, window=64, validation=0.0)
    with pytest.raises(UsageError, match=r"--validation=0.6 and --test=0.4 leave no text to train on"):
        cut(validation=0.6, test=0.4)
    assert cut("ab" * 22, validation=0.0)[0].remarks == ("lines: no window has the last 1 character of the training part",)
    assert set(TEXTS) == {"python_topics", "file", "tfds"} and tfds_text


@pytest.mark.slow
def test_shakespeare_is_read_as_published(shared_data: pathlib.Path, tmp_path: pathlib.Path):
    file = shared_data / "tiny_shakespeare" / "input.txt"
    text = text_file(str(file))
    data = text_windows(dataset=lambda: text)
    windows = windows_of(data, context=128, measured=256)
    assert len(text.content) == 1_115_394 and len(data.class_names) == 65
    assert windows.each == (round(0.9 * 1_115_394) - 1) // 16 // 64


def test_a_text_is_drawn_from_the_softmax_character_by_character_by_its_own_key():
    data, windows = cut(validation=0.0, test=0.1)
    model = RecurrentWriter(len(data.class_names), widths=(5,), output_initializer=functools.partial(init.normal, std=2.0))
    task = write(model, windows=windows)
    params, _ = jax.jit(task.init)(jax.random.key(0), {"text": jnp.zeros((1, 8), jnp.int32)})
    beginning, keys = jnp.array([3, 1, 4]), jax.random.split(jax.random.key(1), 3)
    writer = jax.jit(task.writer, static_argnums=5)
    texts = np.asarray(writer(params, {}, keys, beginning, jnp.float32(0.7), 20))
    np.testing.assert_array_equal(writer(params, {}, keys[1:2], beginning, jnp.float32(0.7), 20)[0], texts[1])
    assert texts.shape == (3, 20) and not np.array_equal(texts[0], texts[2])
    logits = jax.jit(task.predict)(params, {}, jnp.concatenate([jnp.tile(beginning, (3, 1)), texts], axis=1))[:, 2:-1]
    for row in range(3):
        for place in range(20):
            key = jax.random.fold_in(keys[row], place)
            assert texts[row, place] == jax.random.categorical(key, logits[row, place] / jnp.float32(0.7))
    likeliest = np.asarray(writer(params, {}, keys, beginning, jnp.float32(0), 20))
    assert (likeliest == likeliest[0]).all()


@pytest.mark.slow
def test_a_run_writes_after_a_prompt_goes_on_and_is_told_what_it_cannot_begin_with(here, tmp_path: pathlib.Path):
    (tmp_path / "lines.txt").write_text(LINE * 40)
    given = ("--experiment=lstm_shakespeare", f"--dataset=file:{tmp_path / 'lines.txt'}", "--model.widths=16", "--epochs=2")
    run = f"--workdir={tmp_path / 'run'}"
    code, _, said = here(*given, run, "--window=16", "--batch_size=8")
    assert code == 0, said
    (tmp_path / "lines.txt").unlink()  # what a run has learned needs no text
    code, said, _ = here("sample", run, "--prompt=To be", "--characters=30", "--count=2")
    assert code == 0 and said.count("To be") == 2 and "temperature 1, seed 0" in said
    code, _, said = here("sample", run, "--prompt=To be%")
    assert code == 2 and "'%' does not occur in the text of training" in said


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_ngram_model_is_witten_and_bells_recursion_over_counts(order):
    content = LINE * 3 + "Whether to suffer is not the question, or to be. Not nobler, but noble; the mind whether in."
    data = text_windows(
        dataset=lambda: Text("lines", content), batch_size=None, window=5, context=6, measured=8, validation=0.3
    )
    windows = windows_of(data, context=6, measured=8)
    task = ngram(order=order, characters=len(data.class_names), size=len(content), windows=windows)
    feed = jax.tree.map(jnp.asarray, next(data.train(0, 0)))
    _, state = jax.jit(task.init)(jax.random.key(0), data.prepare(data.resident["train"], feed, None))
    split = round(0.7 * len(content))
    train, held = content[: (split - 1) // 5 * 5 + 1], content[split:]

    def probability(context, character):
        if context is None:
            return 1 / len(data.class_names)
        shorter = probability(context[1:] if context else None, character)
        after = [train[i + len(context)] for i in range(len(train) - len(context)) if train[i:].startswith(context)]
        types = len(set(after))
        return shorter if not after else (after.count(character) + types * shorter) / (len(after) + types)

    nats = [-np.log(probability(held[max(0, i - order + 1) : i], held[i])) for i in range(1, len(held))]
    batch = {**data.resident["validation"], "index": np.arange(data.sizes["validation"])}
    batch = jax.tree.map(jnp.asarray, {**batch, "mask": np.ones(data.sizes["validation"], bool)})
    numbers = task.summary(jax.device_get(jax.jit(task.measure)({}, state, batch)))
    assert numbers["loss"] == pytest.approx(np.mean(nats), rel=2e-6)
    assert numbers["bits_per_character"] == pytest.approx(np.mean(nats) / np.log(2), rel=2e-6)


@pytest.mark.slow
def test_an_ngram_model_of_shakespeare_has_the_bits_that_were_measured_elsewhere(shared_data: pathlib.Path):
    """By another program on the same text and split: 3.586, 2.956, 2.559 and 2.408 bits a character for orders 2 to 5."""
    file = f"file:{shared_data / 'tiny_shakespeare' / 'input.txt'}"
    made = knobs.resolve(counted_ngrams, {"dataset": file, "order": 5}).call()
    program = build_program(made, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    stats = train.evaluate(program, program.init(0), "validation")
    assert program.experiment.task.summary(stats)["bits_per_character"] == pytest.approx(2.408, abs=5e-4)
