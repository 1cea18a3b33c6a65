# The light image: gateway, rollout controller, and the command line that asks and decides.  No TensorFlow: the model
# server is stock tensorflow/serving.  Built from the repository's root:
#     docker build --file infra/docker/serving.Dockerfile --tag fraudops-serving:0.1.0 .

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY infra/docker/install.sh infra/docker/
COPY infra/python/lock.txt infra/python/serving.lock infra/python/
RUN sh infra/docker/install.sh packages infra/python/serving.lock /opt/fraudops
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY components/ components/
COPY pipelines/ pipelines/
COPY schemas/ schemas/
COPY serving/ serving/
RUN sh infra/docker/install.sh project /opt/fraudops


FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="fraudops-serving" \
      org.opencontainers.image.description="Gateway and rollout controller of fraudops" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home fraudops \
 && install --directory --owner fraudops --group fraudops /var/lib/fraudops
# A virtual environment knows its place: it is the same in both stages.
COPY --from=build /opt/fraudops /opt/fraudops
# Nothing is written beside the code, so that the root may be read-only.  There is no git here, and MLflow would say so.
ENV PATH=/opt/fraudops/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /var/lib/fraudops
VOLUME /var/lib/fraudops
# The gateway's; compose.yaml has one for each service.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8601/metrics', timeout=5)"]
ENTRYPOINT ["fraudops"]
CMD ["--help"]
