"""What passes between the steps: files, and where they lie.

A step is told a folder or a URI and leaves files there; the next step is told the same. `files` writes them
so that a crash leaves the old or the new file, never half of one. `storage` puts folders into a local folder
or a bucket. A checkpoint may be resumed or evaluated once its `commit.json` (`checkpoint`), which names every
file with size and digest, is written, last; `checkpoint.json` points to it from wherever the pipeline carries
artifacts. `outcome` is how a step says how it ended and how far it has got.
"""
