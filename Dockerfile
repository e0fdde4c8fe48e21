# The server for Docker and Podman: docs/install.md. The Home Assistant app has an image of its own, addon/Dockerfile.
#
#   docker build -t wyoming-chatterbox .                                        for CPUs
#   docker build -t wyoming-chatterbox:cuda --build-arg TORCH_BACKEND=cu130 .   for NVIDIA GPUs
#   docker build -t wyoming-chatterbox:light --build-arg TORCH_BACKEND=none .   the embedded voice alone
# Pinned to the content of the image, for all architectures; .github/dependabot.yml proposes newer ones.
FROM debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f

# Which build of torch: cpu, cu126, cu128, cu130 (GPUs), pip (what pip is configured to install) or none.
ARG TORCH_BACKEND=cpu

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10200 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin chatterbox \
    && install -d -o chatterbox -g chatterbox /data

# What decides which packages are installed, so that a change of the code alone downloads nothing again.
WORKDIR /opt/wyoming-chatterbox
COPY LICENSE NOTICE README.md constraints.txt pyproject.toml requirements-chatterbox.txt requirements-embedded.txt ./
COPY script/_environment.py script/setup script/
COPY wyoming_chatterbox/__init__.py wyoming_chatterbox/
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
RUN if [ "${TORCH_BACKEND}" = none ]; then \
        script/setup --http; \
    else \
        script/setup --chatterbox --http --torch-backend "${TORCH_BACKEND}"; \
    fi \
    && .venv/bin/pip uninstall --yes --quiet uv

COPY wyoming_chatterbox wyoming_chatterbox
RUN .venv/bin/python -m compileall -q wyoming_chatterbox

# The root file system may be read-only; what is kept is in /data, what is not in /tmp.
ENV PATH=/opt/wyoming-chatterbox/.venv/bin:$PATH \
    LANG=C.UTF-8 \
    HOME=/data \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/cache/huggingface \
    NUMBA_CACHE_DIR=/tmp/numba \
    WYOMING_CHATTERBOX_DATA_DIR=/data \
    WYOMING_CHATTERBOX_DOWNLOAD_DIR=/data/models
WORKDIR /data
VOLUME ["/data"]
EXPOSE 10200/tcp 10201/tcp
USER 10200:10200

HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "wyoming_chatterbox.healthcheck"]

ENTRYPOINT ["wyoming-chatterbox"]

LABEL org.opencontainers.image.title="wyoming-chatterbox" \
    org.opencontainers.image.description="Wyoming server that streams Chatterbox speech to Home Assistant" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="0.1.0"
