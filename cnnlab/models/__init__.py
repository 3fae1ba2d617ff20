"""The networks by name, one dict for each kind of network; what one of a kind is called with stands below its dict."""

from cnnlab.models import (
    faster_rcnn,
    fcn,
    full_resolution,
    gan,
    localizer,
    mask_rcnn,
    retinanet,
    segnet,
    ssd,
    thresholds,
    unet,
    vae,
    vq_vae,
    yolo,
)
from cnnlab.models.autoencoder import ConvAutoencoder, MLPAutoencoder, linear_autoencoder
from cnnlab.models.centre import Centre
from cnnlab.models.classifiers import MODELS, native_shape
from cnnlab.models.deconvnet import DeconvNet
from cnnlab.models.fast_rcnn import FastRCNN
from cnnlab.models.pixelcnn import GatedPixelCNN, PixelCNN
from cnnlab.models.pixelrnn import PixelRNN
from cnnlab.models.rcnn import RCNN
from cnnlab.models.watershed import OtsuWatershed
from cnnlab.models.yolo_grid import YOLOGrid

__all__ = [
    "AUTOENCODERS",
    "DETECTORS",
    "GANS",
    "LOCALIZERS",
    "MODELS",
    "PIXEL_MODELS",
    "SEGMENTERS",
    "VAES",
    "VQ_VAES",
    "native_shape",
]

SEGMENTERS = {
    "unet": unet.UNet,
    "unet_2015": unet.UNet2015,
    "fcn32s": fcn.fcn32s,
    "fcn16s": fcn.fcn16s,
    "fcn8s": fcn.fcn8s,
    "fcn_resnet50": fcn.fcn_resnet50,
    "fcn_resnet101": fcn.fcn_resnet101,
    "deconvnet": DeconvNet,
    "segnet": segnet.SegNet,
    "segnet_basic": segnet.SegNetBasic,
    "full_resolution": full_resolution.FullResolution,
    "patch_classifier": full_resolution.PatchClassifier,
    "otsu": thresholds.Otsu,
}
"""Networks that classify every pixel, by name: `model(images f32 [B, H, W, C], train=…) -> (logits f32 [B, H, W, K],
intermediates)`, at any size of images. Logits of further heads, for deep supervision, are the intermediates `auxiliary…`."""

DETECTORS = {
    "ssd": ssd.SSD,
    "ssd300": ssd.SSD300,
    "retinanet": retinanet.RetinaNet,
    "retinanet_resnet50": retinanet.retinanet_resnet50,
    "centre": Centre,
    "rcnn": RCNN,
    "fast_rcnn": FastRCNN,
    "faster_rcnn": faster_rcnn.FasterRCNN,
    "faster_rcnn_vgg16": faster_rcnn.faster_rcnn_vgg16,
    "faster_rcnn_resnet50": faster_rcnn.faster_rcnn_resnet50,
    "mask_rcnn": mask_rcnn.MaskRCNN,
    "mask_rcnn_resnet50": mask_rcnn.mask_rcnn_resnet50,
    "otsu_watershed": OtsuWatershed,
    "yolo_grid": YOLOGrid,
    "yolo_v1": yolo.yolo_v1,
    "yolo_v1_tiny": yolo.yolo_v1_tiny,
}
"""Networks of detection by name: `model(images f32 [B, H, W, C], train=…) -> (outputs f32 [B, N, P], intermediates)`, and what
the outputs mean, `model.head(image_size)`; see models/detection.py. Classes are those of objects, without a background. One
that takes `objects` and `keys`, too, is told the objects in training and returns what its loss reads, and one that takes
`proposals` is given those of the data set (two_stages.py). One that finds masks returns its detections (mask_head.py), which it
chooses as `suppression` says where it takes that."""

LOCALIZERS = {"localizer": localizer.MapLocalizer, "vgg16_localizer": localizer.vgg16_localizer}
"""Networks of class and box by name: `model(images f32 [B, H, W, C], train=…) -> ({"logits": f32 [B, K], "box": f32 [B, 4], or
[B, K, 4] for a box of each class}, intermediates)`; see models/localizer.py."""

AUTOENCODERS = {"mlp": MLPAutoencoder, "linear": linear_autoencoder, "conv": ConvAutoencoder}
"""Autoencoders by name: `model(images, train=…) -> (outputs [B, H, W, C], {"code": [B, Z]})`, with `encode` and `decode`."""

VAES = {
    "mlp": vae.mlp,
    "mlp_400_20": vae.mlp_400_20,
    "iwae_200_200_50": vae.iwae_200_200_50,
    "conv": vae.conv,
}
"""Variational autoencoders by name: `vae(image_shape=…, outputs=…, classes=…) -> vae.VAE`; see models/vae.py."""

VQ_VAES = {"vq_vae": vq_vae.vq_vae, "vq_vae_2017": vq_vae.vq_vae_2017}
"""Vector-quantised autoencoders by name: `model(image_shape=…, outputs=…) -> vq_vae.VQVAE`; see models/vq_vae.py."""

PIXEL_MODELS = {"pixelcnn": PixelCNN, "gated_pixelcnn": GatedPixelCNN, "pixelrnn": PixelRNN}
"""Autoregressive networks by name: `model(images f32 [B, H, W, C], labels i32 [B], train=…, at=…)` returns (parameters of a
distribution for each pixel [B, H, W, P], intermediates); see models/pixelcnn.py."""

GANS = {"mlp": gan.mlp, "dcgan": gan.dcgan}
"""Pairs of networks by name: `gan(image_shape, is_penalised=…) -> (generator, discriminator)`; see models/gan.py."""
