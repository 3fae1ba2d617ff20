"""Relative position without content: in smooth noise nothing tells where a piece lies, but a colour fringe of the lens does.

Paper:    C. Doersch, A. Gupta, A. Efros, Unsupervised visual representation learning by context prediction, ICCV 2015,
          arXiv 1505.05192, sections 4.1 and 4.2
Command:  python launch.py ablate --experiment=shortcuts_noise
Result:   test accuracy 0.456 ± 0.074 with the fringe, 0.108 ± 0.011 without, 0.119 ± 0.002 with the fringe and dropped
          channels, 0.472 ± 0.052 with the fringe and the projection, over 3 seeds; 18 runs in 2.5 min on 2 CPU cores.

Chance is 1/8. The gap of 0.4 of a cell is four standard deviations of the noise's smoothing, so that nothing goes on from one
piece to the next. An arm above chance has found the fringe; `accuracy_without_leak` is the same network on images without it.
"""

from functools import partial

from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.data.procedural import smooth_noise
from cnnlab.models.convnet import ConvNet
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.pretexts import relative_position
from cnnlab.values import Duration

experiment = partial(
    pretext_learning,
    pretext=partial(relative_position, gap=0.4),
    model=partial(ConvNet, widths=(8, 16, 32)),
    data=partial(images, dataset=partial(smooth_noise, size=48, scale=1.5)),
    duration=Duration(8, "epochs"),
)

study = StudySpec(
    question="Is relative position solved without content, by a fringe of the lens, and do dropped colours prevent it?",
    vary=("leak:none,lens_fringe", "pretext.colours:keep,drop,project"),
    seeds=3,
    metric="test/accuracy",
)
