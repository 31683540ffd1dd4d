# syntax=docker/dockerfile:1

# --- the package with its compiled hot path, and everything it requires, as wheels
FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY broker ./broker
# A wheel for any platform would mean that nothing was compiled: the image must not be slow in silence.
RUN pip wheel --no-cache-dir --wheel-dir /wheels . \
    && ls /wheels/leveret-*-cp312-*.whl

# --- what runs
FROM python:3.12-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels leveret \
    && groupadd --gid 10001 leveret \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/leveret --no-create-home --shell /usr/sbin/nologin leveret \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/leveret
COPY --chmod=0755 scripts/healthcheck /usr/local/bin/leveret-healthcheck
COPY conf/leveret.conf /etc/leveret/leveret.conf

# Inside a container every client comes from another address: loopback alone would reach nobody, and so would guest if
# it were bound to it. Whoever publishes the port sets LEVERET_DEFAULT_USER and LEVERET_DEFAULT_PASS.
ENV LEVERET_HOST=0.0.0.0 \
    LEVERET_DATA_DIR=/var/lib/leveret \
    LEVERET_CONFIG=/etc/leveret/leveret.conf \
    LEVERET_LOOPBACK_USERS=none \
    PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
WORKDIR /var/lib/leveret
VOLUME /var/lib/leveret
EXPOSE 5672 15672 15692
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --start-interval=1s --retries=3 CMD ["leveret-healthcheck"]
ENTRYPOINT ["leveret"]
CMD ["serve"]
