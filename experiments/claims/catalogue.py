"""The claims of the literature that this repository tests or plans to test, and the works that state them.

A claim is a sentence, which the files cNN_*.py beside this one test; without a file it is planned. Works are in references.bib.
"""

from cnnlab.ablation.plan.claim import Claim

FOUNDATIONS = "Foundations"
TRAINING = "Training"
REGULARISATION = "Regularisation"
ARCHITECTURES = "Architectures"
TRANSFER = "Transfer and pre-training"
AUTOENCODERS = "Autoencoders and VAEs"
GENERATIVE = "GANs and PixelCNN"
DENSE = "Segmentation and detection"
INSIDE = "Looking inside"
SEQUENCES = "Sequences"
COMPRESSION = "Compression"
EVALUATION = "Evaluation"
SCALE = "Scale"

CHAPTERS = (
    FOUNDATIONS,
    TRAINING,
    REGULARISATION,
    ARCHITECTURES,
    TRANSFER,
    AUTOENCODERS,
    GENERATIVE,
    DENSE,
    INSIDE,
    SEQUENCES,
    COMPRESSION,
    EVALUATION,
    SCALE,
)
"""The chapters in the order of a course."""

CLAIMS = (
    Claim(
        "C1",
        "A perceptron cannot learn XOR; a network with one hidden layer can",
        FOUNDATIONS,
        "both",
        ("minsky1969", "rumelhart1986internal", "muroga1971"),
    ),
    Claim(
        "C2",
        "Without a non-linearity a deep network is a linear classifier",
        FOUNDATIONS,
        "both",
        ("goodfellow2016", "saxe2014"),
    ),
    Claim(
        "C3",
        "Networks of ReLU units train faster than networks of tanh or sigmoid units",
        TRAINING,
        "statistical",
        ("krizhevsky2012", "glorot2011"),
    ),
    Claim(
        "C4",
        "Too small random weights make activations and gradients vanish with depth, too large ones saturate or explode "
        "them; the rules of Xavier and He keep their scale",
        TRAINING,
        "both",
        ("glorot2010", "he2015"),
    ),
    Claim(
        "C5",
        "Zero initial weights never break the symmetry between units",
        TRAINING,
        "exact",
        ("rumelhart1986internal", "goodfellow2016"),
    ),
    Claim(
        "C6",
        "Batch normalisation speeds training up, permits higher learning rates and makes the initial scale matter less",
        TRAINING,
        "statistical",
        ("ioffe2015",),
    ),
    Claim("C7", "Plain networks get worse with depth; residual ones do not", ARCHITECTURES, "statistical", ("he2016",)),
    Claim(
        "C8",
        "Dropout lowers the test error of a network that over-fits; halved weights are the geometric mean of its sub-networks",
        REGULARISATION,
        "both",
        ("hinton2012", "srivastava2014", "baldi2013"),
    ),
    Claim(
        "C9",
        "An L1 penalty gives sparse weights, an L2 penalty diffuse ones",
        REGULARISATION,
        "both",
        ("tibshirani1996", "ng2004"),
    ),
    Claim(
        "C10",
        "L2, dropout, early stopping and augmentation each narrow the gap between training and test",
        REGULARISATION,
        "statistical",
        ("krogh1991", "srivastava2014", "prechelt1998", "simard2003"),
    ),
    Claim(
        "C11",
        "Mini-batches reach a given loss with less computation than the full batch, along a noisier curve",
        TRAINING,
        "both",
        ("lecun1998efficient", "bottou2018"),
    ),
    Claim(
        "C12",
        "On an ill-conditioned loss momentum and Adam need far fewer steps than gradient descent, and AdaGrad's rate decays",
        TRAINING,
        "both",
        ("polyak1964", "kingma2015", "duchi2011"),
    ),
    Claim(
        "C13",
        "SGD with momentum, tuned, ends at least as well as Adam",
        TRAINING,
        "statistical",
        ("wilson2017",),
        disputed_by=("choi2019", "schmidt2021"),
    ),
    Claim(
        "C14",
        "A learning rate can be too low or too high, and a step decay at the plateau helps",
        TRAINING,
        "statistical",
        ("bengio2012", "he2016"),
    ),
    Claim(
        "C15",
        "Random search beats a grid of as many trials where few hyperparameters matter",
        TRAINING,
        "statistical",
        ("bergstra2012",),
    ),
    Claim(
        "C16",
        "Three 3x3 convolutions have the receptive field of one 7x7 convolution and 27/49 of its weights",
        ARCHITECTURES,
        "exact",
        ("simonyan2015",),
    ),
    Claim(
        "C17",
        "Pooling makes a network more robust to small shifts",
        ARCHITECTURES,
        "both",
        ("lecun1998", "zhang2019"),
        disputed_by=("azulay2019",),
    ),
    Claim(
        "C18",
        "A convolutional network beats a fully connected one with as many parameters, and stays ahead on shifted images",
        ARCHITECTURES,
        "statistical",
        ("lecun1998",),
    ),
    Claim(
        "C19",
        "A fully connected layer is a convolution whose kernel is as large as its input, so a classifier runs over larger "
        "images",
        ARCHITECTURES,
        "exact",
        ("sermanet2014", "simonyan2015", "long2015"),
    ),
    Claim(
        "C20",
        "In AlexNet and VGG most parameters lie in the first fully connected layer and most computation in the "
        "convolutions, but not in the first one",
        ARCHITECTURES,
        "exact",
        ("krizhevsky2012", "krizhevsky2014", "simonyan2015"),
    ),
    Claim(
        "C21",
        "ResNet, DenseNet and Inception reach an error with fewer parameters than VGG",
        ARCHITECTURES,
        "statistical",
        ("huang2017", "he2016", "szegedy2015"),
    ),
    Claim(
        "C22",
        "Transfer from a larger data set helps when labels are few",
        TRANSFER,
        "statistical",
        ("donahue2014", "yosinski2014", "kornblith2019"),
    ),
    Claim(
        "C23",
        "Unsupervised pre-training helps with few labels and saturating units, and matters less with better initial "
        "weights, ReLU and more labels",
        TRANSFER,
        "statistical",
        ("erhan2010", "vincent2010", "glorot2011"),
    ),
    Claim(
        "C24",
        "A deep autoencoder reconstructs better than PCA with a code of the same size",
        AUTOENCODERS,
        "both",
        ("hinton2006", "baldi1989", "eckart1936"),
    ),
    Claim(
        "C25",
        "Codes drawn from a fixed prior decode to garbage in an autoencoder and to digits in a VAE; a density fitted to the "
        "codes repairs the autoencoder",
        AUTOENCODERS,
        "statistical",
        ("kingma2014", "ghosh2020"),
    ),
    Claim(
        "C26",
        "The two terms of a VAE's loss trade reconstruction for codes that follow the prior, so that draws look like data",
        AUTOENCODERS,
        "statistical",
        ("higgins2017", "alemi2018"),
    ),
    Claim(
        "C27",
        "Images of a GAN are sharper than those of a VAE, but a GAN is unstable to train: the saturating loss loses its "
        "gradient, and modes are dropped",
        GENERATIVE,
        "both",
        ("goodfellow2014", "arjovsky2017", "metz2017", "larsen2016", "gulrajani2017"),
    ),
    Claim(
        "C28",
        "A PixelCNN has an exact likelihood and draws slowly: one evaluation of the network for each value of an image",
        GENERATIVE,
        "both",
        ("vandenoord2016", "ramachandran2017"),
    ),
    Claim(
        "C29",
        "Self-supervised features beat random ones under a linear probe, and help with few labels",
        TRANSFER,
        "statistical",
        ("gidaris2018", "doersch2015"),
    ),
    Claim(
        "C30",
        "Self-training beats training on the labelled part alone",
        TRANSFER,
        "statistical",
        ("lee2013",),
        disputed_by=("arazo2020",),
    ),
    Claim(
        "C31",
        "An LSTM with open forget gates keeps a gradient over lags at which a plain recurrent network has lost it",
        SEQUENCES,
        "both",
        ("hochreiter1997", "gers2000", "bengio1994", "pascanu2013"),
    ),
    Claim(
        "C32",
        "An ensemble beats its members on average, and gains with their number",
        REGULARISATION,
        "both",
        ("hansen1990", "lakshminarayanan2017"),
    ),
    Claim(
        "C33",
        "A step of invisible size against the gradient breaks a classifier, and noise can be made to look certain to it",
        INSIDE,
        "both",
        ("szegedy2014", "goodfellow2015", "nguyen2015", "madry2018"),
    ),
    Claim(
        "C34", "Later layers respond to larger patches of the image", INSIDE, "exact", ("zeiler2014", "araujo2019", "luo2016")
    ),
    Claim(
        "C35",
        "Fast R-CNN's shared convolutions cost a small fraction of R-CNN's pass for each proposal",
        DENSE,
        "both",
        ("girshick2015", "girshick2014"),
    ),
    Claim(
        "C36",
        "A fully convolutional network without padding gives the scores of a sliding window at a fraction of its cost",
        DENSE,
        "exact",
        ("sermanet2014", "long2015", "ciresan2012"),
    ),
    Claim("C37", "Skip connections sharpen the segmentation of FCN-32s", DENSE, "both", ("long2015",)),
    Claim(
        "C38",
        "Depthwise separable convolutions give more accuracy for each multiply-accumulate",
        ARCHITECTURES,
        "both",
        ("howard2017", "chollet2017"),
    ),
    Claim(
        "C39",
        "Pruning, weight sharing and Huffman coding store LeNet in about a fortieth of its size at no loss of accuracy",
        COMPRESSION,
        "both",
        ("han2016",),
    ),
    Claim(
        "C40",
        "Accuracy misleads where classes are unbalanced; balanced accuracy does not",
        EVALUATION,
        "both",
        ("brodersen2010", "codella2019", "tschandl2018"),
    ),
    Claim(
        "C41",
        "Nearest neighbours on pixels classify digits well for small k, at a cost that grows with the training set",
        FOUNDATIONS,
        "both",
        ("cover1967", "lecun1998"),
    ),
    Claim(
        "C42",
        "With a small last layer an untrained classifier of C classes starts at ln C with softmax and at C - 1 with the hinge",
        FOUNDATIONS,
        "exact",
        ("cs231n",),
    ),
    Claim(
        "C43", "Inputs of zero mean and unit variance speed training up", TRAINING, "both", ("lecun1998efficient", "lecun1991")
    ),
    Claim(
        "C44",
        "Data-parallel training on n devices follows the curve of one device with the same batch",
        SCALE,
        "exact",
        ("goyal2017",),
    ),
    Claim(
        "C45",
        "Adaptive optimisers hardly depend on the learning rate",
        TRAINING,
        "statistical",
        ("kingma2015", "goodfellow2016"),
        disputed_by=("wilson2017",),
    ),
    Claim("C46", "Dropout regularises better than L1 or L2, each tuned", REGULARISATION, "statistical", ("srivastava2014",)),
    Claim(
        "C47",
        "Batch normalisation works by removing internal covariate shift",
        TRAINING,
        "statistical",
        ("ioffe2015",),
        disputed_by=("santurkar2018",),
    ),
    Claim(
        "C48",
        "A ReLU unit that is 0 on all inputs gets no gradient and cannot recover by itself; a leaky one can",
        TRAINING,
        "exact",
        ("maas2013", "lu2020"),
    ),
    Claim(
        "C49",
        "Finite differences cost a pass for each parameter, back-propagation a constant number of passes",
        FOUNDATIONS,
        "exact",
        ("rumelhart1986", "baur1983", "baydin2018"),
    ),
    Claim(
        "C50",
        "Flipped training images harm digits and help photographs",
        REGULARISATION,
        "statistical",
        ("shorten2019", "krizhevsky2012"),
    ),
    Claim(
        "C51",
        "An autoencoder reconstructs inputs badly that are unlike its training data",
        AUTOENCODERS,
        "statistical",
        ("japkowicz1995",),
        disputed_by=("denouden2018", "nalisnick2019"),
    ),
    Claim(
        "C52",
        "One hidden layer suffices in principle, but for some functions depth is exponentially cheaper",
        FOUNDATIONS,
        "exact",
        ("cybenko1989", "hornik1989", "telgarsky2016", "montufar2014"),
    ),
    Claim(
        "C53",
        "A network that does not over-fit gets better when it is made bigger",
        REGULARISATION,
        "statistical",
        ("neyshabur2015", "belkin2019", "nakkiran2020"),
    ),
    Claim("C54", "Pruned networks train better from their first weights", COMPRESSION, "statistical", ("frankle2019",)),
    Claim("C55", "Soft targets of a larger network teach more than labels", COMPRESSION, "statistical", ("hinton2015",)),
)
"""All claims by number."""
