#!/bin/sh
# What a CI runs: unit tests, one trial with the settings as they are, and the check that it is not
# worse than the trial with the tag "released". The store would be a folder or server that stays.
set -e
python -m pytest -q tests
python train.py
daskperiment check-metric breast-cancer latest --by Result.test --against released --tolerance 0.01
