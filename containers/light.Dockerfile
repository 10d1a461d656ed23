# The light lfc: data, registering, configs and their check. No torch.
#   docker build -f containers/light.Dockerfile -t lfc-light .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" lfc-light prep convert answers.csv -o data/answers.jsonl
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --no-install-recommends -y gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python -m venv /opt/lfc \
    && /opt/lfc/bin/pip install --no-cache-dir -c constraints.txt '.[excel]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/lfc /opt/lfc
ENV PATH="/opt/lfc/bin:$PATH" HOME=/tmp
WORKDIR /work
ENTRYPOINT ["lfc"]
CMD ["--help"]
