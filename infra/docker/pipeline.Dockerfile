# The image of whatever trains, whole or a node at a time, and of the MLflow server.  Built from the repository's root:
#     docker build --file infra/docker/pipeline.Dockerfile --tag fraudops-pipeline:0.1.0 .

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY infra/docker/install.sh infra/docker/
COPY infra/python/lock.txt infra/python/pipeline.lock infra/python/
RUN sh infra/docker/install.sh packages infra/python/pipeline.lock /opt/fraudops
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY components/ components/
COPY pipelines/ pipelines/
COPY schemas/ schemas/
COPY serving/ serving/
RUN sh infra/docker/install.sh project /opt/fraudops


FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="fraudops-pipeline" \
      org.opencontainers.image.description="The training pipeline of fraudops" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home fraudops \
 && install --directory --owner fraudops --group fraudops /var/lib/fraudops /var/lib/mlflow
# A virtual environment knows its place: it is the same in both stages.
COPY --from=build /opt/fraudops /opt/fraudops
# Nothing is written beside the code or at home, so that the root may be read-only.  There is no git here, and MLflow
# would say so.
ENV PATH=/opt/fraudops/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /var/lib/fraudops
VOLUME /var/lib/fraudops
ENTRYPOINT ["fraudops"]
CMD ["--help"]
