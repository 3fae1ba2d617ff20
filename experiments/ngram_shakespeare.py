"""Counts of characters in context, smoothed: the baseline that a network has to beat on Shakespeare.

Paper:    I. Witten, T. Bell, The zero-frequency problem, 1991, IEEE Transactions on Information Theory 37
Command:  python launch.py --experiment=ngram_shakespeare --data_dir=DIR; also --order=2 to 7, and --dataset=python_topics
Result:   3.586, 2.956, 2.559, 2.408, 2.450 and 2.567 bits a character of the last tenth for orders 2 to 7; nothing is random.
          Seconds on 2 CPU cores.
"""

from functools import partial

from cnnlab.data.text_windows import text_windows
from cnnlab.recipes.writing import counted_ngrams

experiment = partial(counted_ngrams, data=partial(text_windows, dataset="tfds:tiny_shakespeare"))
