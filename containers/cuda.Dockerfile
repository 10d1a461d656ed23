# The whole stack, in the set of constraints.txt: LLaMA-Factory, Unsloth and torch with CUDA, for one or several GPUs.
#   docker build -f containers/cuda.Dockerfile -t lfc-cuda .
#   docker run --rm --gpus all --ipc host -v "$PWD:/work" lfc-cuda run medical-hybrid
# torch's wheels bring CUDA's libraries; the host needs a driver that is new enough for CUDA 13.
FROM python:3.11-slim-bookworm
# gcc and Python's headers stay: triton compiles kernels while it trains.
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++ gcc libc6-dev git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python -m venv /opt/lfc \
    && /opt/lfc/bin/pip install --no-cache-dir -c constraints.txt '.[train,excel]' \
    && rm -rf /source
ENV PATH="/opt/lfc/bin:$PATH"
WORKDIR /work
ENTRYPOINT ["lfc"]
CMD ["--help"]
