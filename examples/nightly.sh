#!/bin/sh
# A model every night at two, UTC. The schedule lives in Kubeflow: this is run once, and running it again changes nothing.
#
#   HEADRACE_KFP_HOST=https://kubeflow.example.org sh examples/nightly.sh --cluster cluster.yaml
#
# Put your bucket in first. HEADRACE names the command where it is not on the path: HEADRACE=.venv/bin/headrace.
#
# Each night begins anew and publishes a version of its own; `current.json` at --publish points to the newest one that
# the gate let pass: one that may be worse than the current one is refused.
# A store belongs to one training: {job} stands for the id of the night's run, so each has one of its own, and goes on
# from there after a lost pod.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

"${HEADRACE:-headrace}" schedule gpt2-nightly --cron '0 2 * * *' "$@" -- \
    --config "$here/fineweb-gpt2.yaml" \
    --store 'gs://your-bucket/runs/nightly-{job}' --publish gs://your-bucket/models/nightly
