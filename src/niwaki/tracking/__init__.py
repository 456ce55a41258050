"""Trackers: what a run directory holds, shown in TensorBoard, MLflow, Weights & Biases or Trackio."""

from niwaki.tracking.base import About, TrackConfig, Tracker, open_tracker, tracker, tracker_names
from niwaki.tracking.following import Following

__all__ = ["About", "Following", "TrackConfig", "Tracker", "open_tracker", "tracker", "tracker_names"]
