"""Metrics that look at samples and not at one extractor's features: images, clips, modes, series."""

from __future__ import annotations

import math

import numpy as np
import torch

from niwaki.core.contract import DataSpec
from niwaki.evaluation.metrics.accuracy import find_classifier
from niwaki.evaluation.sample_sets import SampleMeasure, SampleSets
from niwaki.evaluation.series_measures import SERIES_MEASURES
from niwaki.evaluation.statistics.result import Result
from niwaki.features import Classifier

__all__ = ["SAMPLE_MEASURES"]


def _images_alone(spec: DataSpec, classifier: bool) -> str:
    return "" if spec.axes == "CHW" else f"compares images, and the data are of modality '{spec.modality}'"


def _ms_ssim(sets: SampleSets) -> dict[str, Result]:
    """Within the classes where they are known, beside training samples'."""
    from niwaki.evaluation.metrics.ms_ssim import ms_ssim_diversity

    spec, train = sets.dataset.spec, sets.dataset.train
    known = sets.labels is not None and train.y is not None
    classes = train.y[torch.from_numpy(sets.order)].cpu().numpy() if known and train.y is not None else None
    sides = [
        ms_ssim_diversity(
            np.clip(x, spec.low, spec.high), low=spec.low, high=spec.high, classes=y, seed=sets.seed
        )
        for x, y in ((sets.samples, sets.labels if known else None), (sets.reference, classes))
    ]
    return {"ms_ssim": sides[0].with_floor(sides[1].value)}


def _names_of_modes(spec: DataSpec, classifier: bool) -> str:
    from niwaki.features.channels import channel_labels

    if classifier or channel_labels(spec):
        return ""
    return "needs the features 'classifier', and so labelled data, or labels of every channel"


def _modes(sets: SampleSets) -> dict[str, Result]:
    """By the classes of the channels where the data hold them, else by the classes themselves."""
    from niwaki.evaluation.metrics.modes import modes_reached
    from niwaki.features.channels import channel_labels, train_channel_classifier

    if channel_labels(sets.dataset.spec):
        reader = train_channel_classifier(sets.dataset, cache=sets.cache)
        kinds, name = reader.kinds, reader.name
        made, real = reader(sets.samples), reader(sets.reference)
    else:
        place = find_classifier(sets.extractors)
        assert place is not None  # `_names_of_modes`
        classifier = sets.extractors[place]
        assert isinstance(classifier, Classifier)
        kinds, name = classifier.classes, f"classifier@{classifier.fingerprint[:8]}"
        made, real = (classifier.probabilities(x).argmax(1) for x in (sets.samples, sets.reference))
    ideal = modes_reached(real, kinds, recogniser=name)
    found = modes_reached(made, kinds, recogniser=name)
    return {metric: result.with_floor(ideal[metric].value) for metric, result in found.items()}


def _clips_alone(spec: DataSpec, classifier: bool) -> str:
    return "" if spec.axes == "TCHW" else f"looks at clips, and the data are of modality '{spec.modality}'"


def _consistency(sets: SampleSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.motion import temporal_consistency

    ideal = temporal_consistency(sets.reference)
    return {"temporal_consistency": temporal_consistency(sets.samples).with_floor(ideal.value)}


def _motion(sets: SampleSets) -> dict[str, Result]:
    from niwaki.evaluation.metrics.motion import motion_error

    low = sets.dataset.spec.low
    ideal = motion_error(sets.reference, low)
    return {"motion_error": motion_error(sets.samples, low).with_floor(ideal.value)}


POSITION = "position"
"""The column that says where the one thing in a clip is: x and y at every frame `(2, T)`, between walls."""


def _one_position(spec: DataSpec, classifier: bool) -> str:
    if reason := _clips_alone(spec, classifier):
        return reason
    if POSITION in spec:
        place = spec[POSITION]
        if place.shape == (2, spec.shape[0]) and place.low == 0 < place.high < math.inf:
            return ""
    return f"needs a column '{POSITION}' of one thing, x and y at every frame"


def _position(sets: SampleSets) -> dict[str, Result]:
    """What lies between a thing's place and its centre of brightness is what it is in training clips, within
    the class where it is known."""
    from niwaki.evaluation.metrics.motion import centres, position_error

    spec, train = sets.dataset.spec, sets.dataset.train
    rows = torch.arange(min(len(train), _OFFSETS))
    place = train.column(POSITION).values(rows).cpu().numpy()[..., 0]
    offsets = centres(train.values(rows).cpu().numpy()[:, :1], spec.low)[:, 0] - place
    y = None if train.y is None else train.y.cpu().numpy()
    by_class = np.tile(offsets.mean(0), (max(spec.classes, 1), 1))
    if y is not None:
        for name in np.unique(y[: len(rows)]):
            by_class[name] = offsets[y[: len(rows)] == name].mean(0)
    known = sets.labels is not None and y is not None
    room = np.full(2, spec[POSITION].high)

    def measured(x: np.ndarray, labels: np.ndarray | None) -> Result:
        offset = offsets.mean(0) if labels is None else by_class[labels]
        return position_error(x, spec.low, offset, room)

    ideal = measured(sets.reference, y[sets.order] if known and y is not None else None)
    found = measured(sets.samples, sets.labels if known else None)
    return {"position_error": found.with_floor(ideal.value)}


def _labelled_clips(spec: DataSpec, classifier: bool) -> str:
    if reason := _clips_alone(spec, classifier):
        return reason
    return "" if spec.classes > 1 else "needs labelled clips"


def _frames_shown(sets: SampleSets) -> dict[str, Result]:
    """What a classifier of single frames sees in each."""
    from niwaki.evaluation.metrics.motion import frames_recognised, same_all_along
    from niwaki.features.frames import train_frame_classifier

    reader, train = train_frame_classifier(sets.dataset, cache=sets.cache), sets.dataset.train
    assert train.y is not None
    made, real = reader(sets.samples), reader(sets.reference)
    found = {"same_all_along": same_all_along(made).with_floor(same_all_along(real).value)}
    if sets.labels is not None:
        ideal = frames_recognised(real, train.y.cpu().numpy()[sets.order])
        found["frames_recognised"] = frames_recognised(made, sets.labels).with_floor(ideal.value)
    return found


_OFFSETS = 2000
"""Training clips that tell where in its place a thing's brightness lies, at most."""

SAMPLE_MEASURES = (
    SampleMeasure({"temporal_consistency": ("fidelity", "higher")}, _clips_alone, _consistency),
    SampleMeasure({"motion_error": ("fidelity", "lower")}, _clips_alone, _motion),
    SampleMeasure({"position_error": ("fidelity", "lower")}, _one_position, _position),
    SampleMeasure(
        {"frames_recognised": ("fidelity", "higher"), "same_all_along": ("fidelity", "higher")},
        _labelled_clips,
        _frames_shown,
    ),
    SampleMeasure({"ms_ssim": ("diversity", "lower")}, _images_alone, _ms_ssim),
    SampleMeasure(
        {"modes_reached": ("diversity", "higher"), "modes_divergence": ("diversity", "lower")},
        _names_of_modes,
        _modes,
    ),
    *SERIES_MEASURES,
)
