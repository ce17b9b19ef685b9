# Step 2: trains on the stream. The base brings CUDA's runtime, torch's wheels the libraries above it.
# `docker/build` builds it; so does `docker build -f docker/train.Dockerfile .` from the repository's root.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${BASE_IMAGE} AS base
RUN missing=""; \
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing="python3 python3-venv"; \
    command -v tini >/dev/null || missing="$missing tini"; \
    if [ -n "$missing" ]; then \
      apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing && rm -rf /var/lib/apt/lists/*; \
    fi

# What every step imports. Wheels that lie in docker/wheels are taken from there; with OFFLINE=1 nothing else is.
FROM base AS common
ARG OFFLINE=
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/headrace
COPY docker/install /usr/local/sbin/install-packages
COPY docker/wheels/ /wheels/
COPY docker/locks/validate.txt /locks/
RUN install-packages /locks/validate.txt

# Which lock it is must not reach the environment below: equal locks then share their layers.
FROM base AS lock
ARG LOCK=train-cuda
COPY docker/locks/${LOCK}.txt /image.txt

FROM common AS packages
ARG OFFLINE=
COPY --from=lock /image.txt /locks/
RUN install-packages /locks/image.txt

# Headrace itself, in a layer of its own: a new revision of it is a few hundred kilobytes.
FROM packages AS package
ARG OFFLINE=
COPY docker/locks/build.txt /locks/
RUN /tools/bin/pip install -q --no-cache-dir --no-deps --find-links /wheels ${OFFLINE:+--no-index} -r /locks/build.txt
COPY pyproject.toml README.md LICENSE /source/
COPY components /source/components
COPY pipelines /source/pipelines
RUN /tools/bin/pip wheel -q --no-cache-dir --no-deps --no-build-isolation -w /dist /source \
 && /tools/bin/pip --python /opt/headrace/bin/python3 install -q --no-cache-dir --no-deps --no-index --prefix /app /dist/*.whl

FROM base
# OpenShift runs it as any user of group 0; `/outputs` is where relative paths lead. A login shell, as the Kubeflow SDK
# starts in containers of Docker, sets PATH anew.
RUN echo 'headrace:x:10001:0:headrace:/tmp:/usr/sbin/nologin' >> /etc/passwd \
 && install -d /etc/profile.d && echo 'PATH=/opt/headrace/bin:$PATH' > /etc/profile.d/headrace.sh \
 && install -d -o 10001 -g 0 -m 2775 /outputs
COPY --from=packages /opt/headrace /opt/headrace
COPY docker/entrypoint /usr/local/bin/headrace-entrypoint
COPY --from=package /app /opt/headrace
ENV PATH=/opt/headrace/bin:${PATH} HOME=/tmp USER=headrace PYTHONUNBUFFERED=1 HEADRACE_ROOM=train
WORKDIR /outputs
USER 10001:0
ENTRYPOINT ["headrace-entrypoint"]
ARG IMAGE=
ARG VERSION=
ARG REVISION=
ARG SOURCE=https://github.com/headrace/headrace
ENV HEADRACE_IMAGE=${IMAGE} HEADRACE_REVISION=${REVISION}
LABEL org.opencontainers.image.title="headrace-train" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
