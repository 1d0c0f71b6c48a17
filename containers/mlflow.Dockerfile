# MLflow's server with what its own image lacks: a driver for PostgreSQL, and one for S3.
#
# podman build --file containers/mlflow.Dockerfile --tag unmask-mlflow .
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BASE_IMAGE} AS build

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/venv

COPY containers/mlflow.lock /tmp/mlflow.lock
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt \
    /opt/build/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
       --require-hashes -r /tmp/mlflow.lock


FROM ${BASE_IMAGE}

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 mlflow \
    && useradd --system --uid 10001 --gid mlflow --no-create-home --home-dir /tmp \
       --shell /usr/sbin/nologin mlflow

COPY --from=build /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

LABEL org.opencontainers.image.title=unmask-mlflow

USER 10001:10001
WORKDIR /tmp
EXPOSE 5000
ENTRYPOINT ["mlflow"]
CMD ["server", "--help"]
