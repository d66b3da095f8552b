# The two commands in a container:
#     docker build --tag rnnlm .
#     docker run --rm rnnlm                 make repro
#     docker run --rm rnnlm make test
# Results stay with `--volume rnnlm-data:/rnnlm/data --volume rnnlm-cache:/rnnlm/.dvc/cache`.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /rnnlm
COPY . .
# Whoever builds owns the files, and root runs here: git asks whether that is meant.
RUN git config --system --add safe.directory /rnnlm
RUN make setup
CMD ["make", "repro"]
