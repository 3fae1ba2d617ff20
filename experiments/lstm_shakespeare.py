"""An LSTM that learns to write like Shakespeare, character by character.

Paper:    A. Graves, Generating sequences with recurrent neural networks, 2013, arXiv 1308.0850; the text is that of A. Karpathy
Command:  python launch.py --experiment=lstm_shakespeare --data_dir=DIR; also --model.layer=rnn or gru, and
          --dataset=python_topics, which needs no data
Result:   2.399 bits a character of the last tenth, seed 0, after 5,880 steps of 16 windows of 64: 228 CPU seconds, 4 min beside
          other work on 2 CPU cores. Counts of 5 characters have 2.408, those of 3 have 2.956 (ngram_shakespeare).
"""

from functools import partial

from cnnlab.data.text_windows import text_windows
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.writing import writing
from cnnlab.values import Duration

experiment = partial(
    writing,
    data=partial(text_windows, dataset="tfds:tiny_shakespeare"),
    optimizer=partial(adam, lr=0.003, schedule="linear", clip_norm=1.0),
    duration=Duration(6, "epochs"),
)
