# The image of `unmask serve`: the page, the API, and the model that `make repro` made, in one wheel.
#
# podman build --format docker --file containers/serve.Dockerfile --tag unmask-serve .
#
# --format docker keeps HEALTHCHECK, which OCI's own format has no place for. containers/compose.yaml
# runs it; docs/serve.md says how it is run by hand. The base must be a Debian or an Ubuntu whose
# python3 is 3.11 or newer.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BASE_IMAGE} AS build

# Not pinned: the base's tag says which Debian it is, and old versions leave its mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

# One environment builds, the other travels: it holds no pip.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/venv

# A place with an index of its own gives its pip.conf, and the certificate that it may name, as
# secrets of the build: no layer holds them.
COPY containers/build.lock containers/serve.lock /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/build.lock \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
       --require-hashes -r /tmp/serve.lock

FROM build AS wheel

COPY LICENSE NOTICE README.md pyproject.toml hatch_build.py /tmp/unmask/
COPY src /tmp/unmask/src
# Where there is no model/, LICENSE alone is copied, and `--model` must name a folder that is mounted.
COPY LICENSE mode[l] /tmp/unmask/model/
RUN if [ -f /tmp/unmask/model/net.onnx ]; then export UNMASK_WHEEL_MODEL=model; fi \
    && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index \
       --wheel-dir /tmp/dist /tmp/unmask \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index \
       --target /tmp/ours /tmp/dist/*.whl


FROM ${BASE_IMAGE}

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 unmask \
    && useradd --system --uid 10001 --gid unmask --no-create-home --home-dir /scratch \
       --shell /usr/sbin/nologin unmask \
    && install --directory --owner unmask --group unmask --mode 700 /scratch

# What others made changes seldom and is large; what is ours is a layer of its own.
COPY --from=build /opt/venv /opt/venv
COPY --from=wheel /tmp/ours /opt/unmask

# The root file system may be read only: all that is written is written to /scratch, where videos lie
# while they are answered.
ENV PATH=/opt/unmask/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/unmask \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/scratch \
    TMPDIR=/scratch

ARG GIT_COMMIT=unknown
LABEL org.opencontainers.image.title=unmask-serve \
      org.opencontainers.image.revision=${GIT_COMMIT}

USER 10001:10001
WORKDIR /scratch
VOLUME /scratch
EXPOSE 7860
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/readyz', timeout=4)"]
# It is process 1, and ends on SIGTERM. Options that follow an image's name in `run` are added.
ENTRYPOINT ["unmask", "serve", "--host", "0.0.0.0", "--port", "7860"]
