"""Pictures of what a system puts together while it learns: clusters, batches, memories."""

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

from benchmarks.gallery.sheet import BLUE, GAP, INK, ORANGE, SOFT, TILE, Sheet
from benchmarks.gallery.trained import class_names, features, hidden, images, learner, pixels
from nolabel.assess.contrastive import contrastive_diagnostics
from nolabel.assess.few_shot import few_shot_score
from nolabel.learn import OpTAClassifier
from nolabel.training import GuidedBatchSampler

TEMPERATURES = {0.07: ORANGE, 0.3: BLUE, 1.0: SOFT}
RANKS = (1, 3, 10, 30, 100, 300, 1000, 2000, 4000, 5999)
EPISODES = 200


def purity(clusters: np.ndarray) -> float:
    """Share of images that are of their cluster's most frequent class, per cent."""
    return 100 * sum(np.bincount(hidden()[clusters == c]).max() for c in np.unique(clusters)) / len(clusters)


def swav() -> tuple[Sheet, str, dict[str, float]]:
    """The images that lie nearest to some prototypes."""
    probabilities = learner("swav").predict_proba(images())
    clusters, count = probabilities.argmax(axis=1), probabilities.shape[1]
    sizes = np.bincount(clusters, minlength=count)
    shown = np.argsort(-sizes)[:7]
    sheet = Sheet(980, 46 + len(shown) * (TILE + GAP + 2))
    sheet.text(16, 16, "The seven prototypes with most images: the eleven surest of each", fontsize=11)
    for row, cluster in enumerate(shown):
        y, members = 38 + row * (TILE + GAP + 2), np.flatnonzero(clusters == cluster)
        sheet.strip(pixels()[members[np.argsort(-probabilities[members, cluster])][:11]], 16, y)
        counts = np.bincount(hidden()[members], minlength=10)
        sheet.text(780, y + 16, f"{len(members)} images, of them", color=SOFT)
        for line, kind in enumerate(np.argsort(-counts)[:2]):
            sheet.text(780, y + 34 + 16 * line, f"{100 * counts[kind] / len(members):.0f} % {class_names()[kind]}")
    shares = sizes[sizes > 0] / sizes.sum()
    values = {"prototypes used (perplexity)": float(np.exp(-(shares * np.log(shares)).sum())), "SwAV": purity(clusters)}
    for name, key in (("untrained network", "untrained"), ("raw pixels", "raw pixels")):
        values[f"k-means on {name}"] = purity(KMeans(count, n_init=1, random_state=0).fit_predict(features(key)))
    told = ", ".join(f"{name} {value:.1f}" for name, value in list(values.items())[1:])
    used = f"{values['prototypes used (perplexity)']:.0f} of {count} prototypes are in use (perplexity)"
    return sheet, f"{used}. Images of their cluster's most frequent hidden class, per cent: {told}.", values


def g_simclr() -> tuple[Sheet, str, dict[str, float]]:
    """Pseudo-classes, and what batches from distinct ones spare."""
    model = learner("g-simclr")
    pseudo, classes, batch = model.pseudo_labels_, hidden("train"), model.training_.batch_size
    rng = np.random.default_rng(0)
    sheet = Sheet(980, 392)
    sheet.text(16, 16, "Five pseudo-classes: no two images of one meet in a batch", fontsize=11)
    for row, group in enumerate(rng.permutation(len(np.unique(pseudo)))[:5]):
        members = rng.permutation(np.flatnonzero(pseudo == group))[:9]
        sheet.strip(pixels("train")[members], 16, 38 + row * (TILE + GAP + 2))

    def same_class_pairs(batches: Any) -> float:
        pairs = [
            (np.triu(classes[rows][:, None] == classes[rows], 1).sum(), len(rows) * (len(rows) - 1) / 2)
            for rows in batches
        ]
        alike, all_pairs = np.sum(pairs, axis=0)
        return float(100 * alike / all_pairs)

    shuffled = rng.permutation(len(pseudo))[: len(pseudo) // batch * batch].reshape(-1, batch)
    guided = GuidedBatchSampler(pseudo, batch).epoch(np.random.default_rng(0))
    values = {"shuffled": same_class_pairs(shuffled), "guided": same_class_pairs(guided)}
    axes = sheet.plot(735, 130, 190, 90, "Pairs of one hidden class\nin a batch, per cent")
    sheet.bars(axes, values, ("#b5b5b5", BLUE), digits=1)
    spared = 100 * (1 - values["guided"] / values["shuffled"])
    return (
        sheet,
        f"Batches of {batch}, over one epoch of images that were learned from: {spared:.0f} % fewer such pairs.",
        values,
    )


def beclr() -> tuple[Sheet, str, dict[str, float]]:
    """Whom the memory lets join an image, and what transported prototypes add to few labels."""
    model: Any = learner("beclr")
    memory = model.net_.memories["teacher"]
    slots, owners = memory.nearest(memory.store, model.neighbours, memory.ids).numpy(), memory.ids.numpy()
    classes, rng = hidden("train"), np.random.default_rng(2)
    sheet = Sheet(980, 330)
    sheet.text(16, 16, "Images in the memory (framed), and the three that join each as positives", fontsize=11)
    for number, slot in enumerate(rng.permutation(len(owners))[:8]):
        x, y = 16 + number % 2 * 310, 40 + number // 2 * (TILE + 8)
        own, near = owners[slot], owners[slots[slot]]
        sheet.tile(pixels("train")[own], x, y)
        sheet.block(x - 2, y - 2, TILE + 4, TILE + 4, INK, filled=False)
        sheet.strip(pixels("train")[near], x + TILE + 3 * GAP, y, classes[near] == classes[own])
    values = {"of the class": 100 * float((classes[owners[slots]] == classes[owners][:, None]).mean())}
    axes = sheet.plot(765, 62, 175, 210, "5 classes, one label each:\naccuracy, per cent")
    scores, widest = {}, 0.0
    for name, key in (("untrained", "untrained"), ("BECLR", "beclr")):
        for head, classifier in (("", OpTAClassifier(passes=0)), (" + OpTA", OpTAClassifier(balanced=True))):
            score = few_shot_score(features(key), hidden(), classifier=classifier, n_episodes=EPISODES)
            scores[name + head], widest = 100 * score.mean, max(widest, 100 * score.interval95)
    sheet.bars(axes, scores, ("#b5b5b5", "#b5b5b5", BLUE, BLUE), digits=1)
    return (
        sheet,
        f"Left: images that were learned from; green line: same hidden class, {values['of the class']:.1f} % of those that join "
        f"(chance 10). Right: other images of these classes, means of {EPISODES} draws, within ±{widest:.1f} points (95 %).",
        values | scores,
    )


def instance_discrimination() -> tuple[Sheet, str, dict[str, float]]:
    """On whom the push of the loss falls, by temperature."""
    bank = torch.nn.functional.normalize(learner("instance-discrimination").net_.bank, dim=1).numpy()
    own = int(np.random.default_rng(4).integers(len(bank)))
    cosines = bank @ bank[own]
    order = np.argsort(-cosines)  # itself first
    sheet = Sheet(980, 340)
    sheet.text(
        16,
        16,
        "An image (framed) and its negatives by rank: how hard each is pushed, of the nearest's push",
        fontsize=11,
    )
    sheet.tile(pixels("train")[own], 16, 60)
    sheet.block(14, 58, TILE + 4, TILE + 4, INK, filled=False)
    left = 16 + TILE + 14
    for place, rank in enumerate(RANKS):
        x, row = left + place * (TILE + GAP), int(order[rank])
        sheet.text(x + TILE / 2, 46, f"{rank:,}", ha="center", fontsize=8, color=SOFT)
        sheet.tile(pixels("train")[row], x, 60)
        for line, (temperature, colour) in enumerate(TEMPERATURES.items()):
            push = float(np.exp((cosines[row] - cosines[order[1]]) / temperature))
            y = 186 + line * 64
            sheet.block(x + 14, y - 40 * push, TILE - 28, max(1.0, 40 * push), colour)
            if place == 0:
                sheet.text(left - 8, y - 12, f"temperature\n{temperature:g}", ha="right")
    seen, grid = bank[:2000], np.geomspace(0.03, 5, 12)
    values = {f"{t:g}": contrastive_diagnostics(seen, seen, t).effective_negatives for t in TEMPERATURES}
    axes = sheet.plot(820, 72, 140, 200, "Negatives that share\nthe push, of 1,999")
    axes.plot(grid, [contrastive_diagnostics(seen, seen, t).effective_negatives for t in grid], color=INK, linewidth=1)
    for temperature, colour in TEMPERATURES.items():
        axes.plot(temperature, values[f"{temperature:g}"], "o", color=colour)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 1], ["0.1", "1"])
    axes.minorticks_off()
    axes.set_xlabel("temperature")
    told = ", ".join(f"{value:.0f} at {name}" for name, value in values.items())
    return (
        sheet,
        f"One memory of the {len(bank):,} images that were learned from, trained at 0.3, seen at three temperatures. Negatives "
        f"that share the push (exp of its entropy): {told}.",
        values,
    )
