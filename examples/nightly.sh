#!/bin/sh
# A model every night at two, UTC. The schedule lives in Kubeflow: this is run once, and running it again changes nothing.
#
#   HEADRACE_KFP_HOST=https://kubeflow.example.org sh examples/nightly.sh
#
# Each night begins anew and publishes a version of its own; `current.json` at --publish points to the newest one.
# So there is no store here: a store belongs to one run, and on the second night it would hold one that has ended. The
# checkpoints lie in the run's own artifact instead, and a pod that is lost starts its night over.
#
# Some Kubeflow back ends put the time into the parameters of recurring runs. Try it for one night; where that works,
# each night has a store, and goes on after a lost pod:
#   --store 'gs://your-bucket/runs/nightly-[[ScheduledTime.2006-01-02]]'
set -eu
cd "$(dirname "$0")/.."

headrace schedule gpt2-nightly --cron '0 2 * * *' -- \
    --config examples/fineweb-gpt2.yaml \
    --store '' --publish gs://your-bucket/models/nightly
