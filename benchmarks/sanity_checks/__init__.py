"""The sanity checks of Räisä, van Breugel & van der Schaar, "Position: all current generative fidelity and
diversity metrics are flawed", ICML 2025 (https://arxiv.org/abs/2505.22450), from the settings of their code
(https://github.com/vanderschaarlab/position-fidelity-diversity-metrics-flawed): data, criteria, metrics."""
