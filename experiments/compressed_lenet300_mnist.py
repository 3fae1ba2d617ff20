"""Deep compression of LeNet-300-100 on MNIST: pruned in rounds, few shared values, a file of Huffman codes.

Paper:    S. Han, H. Mao, W. J. Dally, Deep compression, 2016, arXiv 1510.00149, tables 1 and 2: error 1.64 % before and
          1.58 % after, 40 times smaller
Command:  python launch.py --experiment=compressed_lenet300_mnist --data_dir=DIR, then
          python launch.py export --workdir=RUN --to=lenet300.cnnz
Result:   test error 1.90 %, a file of 28,972 bytes, 36.8 times smaller, one seed; 12,656 steps, 98 s of CPU time

In as many steps without pruning (--pruning=none) the error is 1.51 %. From the end of that run (--init_from=RUN --dense=0
--settle=0.6) it is 1.63 % after as many steps again, 28,367 bytes, 37.6 times smaller: nearly the paper's "no loss".
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.tasks.prune import kmeans, magnitude
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet_300_100",
    data=partial(images, dataset="tfds:mnist", batch_size=128),
    optimizer=partial(adam, lr=0.001, weight_decay=2e-5, schedule="cosine"),
    # The densities are those of table 2.
    pruning=partial(
        magnitude,
        density=0.08,
        density_by_layer=("dense2=0.09", "output=0.26"),
        rounds=4,
        dense=0.2,
        settle=0.5,
        sharing=partial(kmeans, bits=5, part=0.15),
    ),
    duration=Duration(30, "epochs"),
)
