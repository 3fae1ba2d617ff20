"""Stacked denoising autoencoders on MNIST: three layers, pre-trained one after another, then fine-tuned together with labels.

Paper:    P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol, Stacked denoising autoencoders, 2010, JMLR 11
Published: 1.28 % with up to 2000 units a layer (Vincent et al. 2010)
Command:  python launch.py --experiment=stacked_dae_mnist
Result:   test error 1.41 %, one seed (the paper: 1.28 % with three layers of up to 2000 units, 50,000 images); 7 min 29 s on 2
          CPU cores while tests ran. Three layers of 500 units, 4 epochs of pre-training and 15 of fine-tuning at a learning
          rate of 0.002: 1.55 %.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.autoencoder import stacked_autoencoders
from cnnlab.values import Duration

experiment = partial(
    stacked_autoencoders,
    data=partial(images, dataset="tfds:mnist", batch_size=128),
    widths=(1000, 1000, 1000),
    pretrain=Duration(10, "epochs"),
    optimizer=partial(adam, lr=0.001),
    duration=Duration(25, "epochs"),
)
