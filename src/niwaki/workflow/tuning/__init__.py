"""Searching for settings of a recipe: trials of Optuna, each a training that is judged on the validation
split.

A study is a directory: `study.json` says what is searched, `journal.log` is Optuna's storage, `trials/0007/`
holds the trainings of a trial. Several processes may work in it.
"""
