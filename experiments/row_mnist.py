"""A recurrent network that reads the handwritten digits of MNIST row by row, or pixel by pixel.

Paper:    Q. Le, N. Jaitly, G. Hinton, A simple way to initialize recurrent networks of rectified linear units, 2015, arXiv
          1504.00941, section 4.2 (pixels)
Command:  python launch.py --experiment=row_mnist --data_dir=DIR; also --model=rnn or gru, --model.read=pixels,
          --control=permute_pixels
Result:   row by row test accuracy 98.93 %, one seed; 3,375 steps, 181 s of CPU time; pixel by pixel at 14x14
          (--model.read=pixels --image_size=14) 97.01 %, one seed, as many steps, and with a GRU for twice as long
          (--model=gru --epochs=16) 98.89 %, one seed, 1 h 30 min beside other work; at 28x28 not measured
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lstm",
    data=partial(images, dataset="tfds:mnist", batch_size=128),
    optimizer=partial(adam, lr=0.002, schedule="cosine", clip_norm=1.0),
    duration=Duration(8, "epochs"),
)
