"""What the page says about each system beside its picture: what it learns, when to use it, how to call it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gallery import groups, neighbours, parts, places


@dataclass(frozen=True)
class Section:
    """One system of the page.

    Attributes
    ----------
    title : heading
    system : its name in `nolabel methods`, which knows paper and claim; empty for the overview
    text : what it learns and when to use it
    how : a command, or a few lines of Python
    picture : draws it; returns the sheet, the caption with what was measured, and the figures
    """

    title: str
    system: str
    text: str
    how: str
    picture: Callable[[], tuple[Any, str, Any]]


BECLR = """\
from nolabel.learn import BECLR, OpTAClassifier

beclr = BECLR().fit("photos/")
few = OpTAClassifier(balanced=True).fit(beclr.transform(labelled), labels)  # queries: about as many of each class
few.predict(beclr.transform(queries))"""
SIE = """\
from nolabel.data.poses import rotated_images
from nolabel.learn import SIE

views = rotated_images("photos/", views=4)  # or a table with the columns image, object, pose
sie = SIE(group="so2").fit(views)
sie.transform(views, part="equi")"""
BSS = """\
from nolabel.learn import SimCLR
from nolabel.views import Augment

views = Augment(area=(0.4, 1.0), style="batch", shared_colour=True)
SimCLR(augment=views, negatives="same_view").fit("photos/")"""

SECTIONS: dict[str, Section] = {
    "overview": Section(
        "At a glance",
        "",
        "Every system saw the same images; what it makes of them differs by what it was asked. The two controls say what the "
        "pixels and an untrained network give for nothing.",
        "",
        neighbours.overview,
    ),
    "simclr": Section(
        "SimCLR",
        "simclr",
        "Two random views of an image attract each other and repel all other images of the batch. What cropping and recolouring "
        "leave alone is kept. The one to try first, for one vector an image.",
        "nolabel learn photos/",
        neighbours.simclr,
    ),
    "swav": Section(
        "SwAV",
        "swav",
        "One view has to predict the cluster that another view of the image was given, among prototypes that are learned along "
        "the way. Use it where clusters are wanted too: `predict` names the prototype of an image.",
        "nolabel learn photos/ --method swav --set prototypes=60",
        groups.swav,
    ),
    "rotnet": Section(
        "RotNet",
        "rotnet",
        "The network sees an image in four turns and names the turn, for which it has to know what stands upright. Cheap, and "
        "right for photographs, faces, scans. Not for images without an up: microscopy, aerial views, textures.",
        "nolabel learn photos/ --method rotnet",
        parts.rotnet,
    ),
    "g_simclr": Section(
        "G-SimCLR",
        "g-simclr",
        "SimCLR on batches in which no two images share a pseudo-class, found beforehand by k-means on an autoencoder. For small "
        "batches, whose negatives else are often of the image's own kind.",
        "nolabel learn photos/ --method g-simclr --batch-size 32",
        groups.g_simclr,
    ),
    "instance_discrimination": Section(
        "Instance discrimination and the temperature",
        "instance-discrimination",
        "Every image is a class of its own, told apart from a memory of all others. The temperature says how many of these "
        "negatives share the push: at a low one the nearest alone, which may be of the image's kind, at a high one all alike. "
        "Use it where batches must be small; `contrastive_diagnostics` measures the push of any contrastive embedding, and "
        "`TemperatureAdvisor` compares short runs.",
        "nolabel learn photos/ --method instance-discrimination --set temperature=0.3",
        groups.instance_discrimination,
    ),
    "beclr": Section(
        "BECLR and OpTA",
        "beclr",
        "A memory of earlier embeddings, kept in clusters, lends each image of a batch its neighbours as further positives. For "
        "features on which new classes are learned from one to five labels each. `OpTAClassifier` then moves the few labelled "
        "examples to where the unlabelled queries lie.",
        BECLR,
        groups.beclr,
    ),
    "pixpro": Section(
        "PixPro",
        "pixpro",
        "Two crops of an image agree at every place they share, where SimCLR and its kin agree on the whole image. For feature "
        "maps: segmentation, detection, retrieval of regions.",
        "nolabel learn photos/ --method pixpro",
        places.pixpro,
    ),
    "obow": Section(
        "OBoW",
        "obow",
        "From a crop, name which visual words occur in the whole image; words are recent features of a slowly moving teacher. "
        "For scenes of several things, and where a visual vocabulary or a bag-of-words descriptor (`bow`) is wanted.",
        "nolabel learn photos/ --method obow",
        places.obow,
    ),
    "sie": Section(
        "SIE",
        "sie",
        "One vector in two halves: the invariant one stays when a thing turns, the equivariant one moves, and a predictor that "
        "is told the turn says where to. It needs views whose poses are known: turntables, robots, simulators, rotated scans.",
        SIE,
        parts.sie,
    ),
    "sepclr": Section(
        "SepCLR",
        "sepclr",
        "From a background collection and a target collection, and nothing else, two vectors an image: what both collections "
        "share, and what the target alone has. For lesions, defects, accessories, where normal images are plentiful. Here the "
        "target's images carry a handwritten digit.",
        "nolabel learn collections/ --method sepclr  # with the folders background/ and target/",
        parts.sepclr,
    ),
    "bss": Section(
        "Batch styles standardisation",
        "bss",
        "Views in which the whole batch has the colours and contrasts of one image, so that nothing can be told apart by its "
        "style. For collections of several looks (scanners, stainings, drawing styles) whose borders nobody labelled. Here "
        "three looks were made. From the command line: `--views bss`, whose smaller crops need a longer training.",
        BSS,
        neighbours.bss,
    ),
    "matryoshka": Section(
        "Matryoshka representations",
        "matryoshka",
        "The loss is asked of the first 8, 16, 32, ... coordinates too, so that an embedding can be cut: a small index, a funnel "
        "search, an early decision. With labels, `MatryoshkaClassifier` and `AdaptiveClassifier` do the same.",
        "nolabel learn photos/ --nested 8,16,32,64,128",
        neighbours.matryoshka,
    ),
}
