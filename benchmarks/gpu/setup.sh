#!/bin/bash
# Unpack the packed stack into a venv on a GPU machine that has torch, and print that venv's Python.
# Run:   PY=$(bash benchmarks/gpu/setup.sh .gpu/stack.tar.xz /tmp/stack) && $PY benchmarks/gpu/train_speed.py …
set -e
archive=$1
venv=$2
python3 -m venv --without-pip "$venv"
site=$(echo "$venv"/lib/python3.*/site-packages)
tar -xJf "$archive" -C "$site"
# The machine's own packages come after ours.
python3 -c 'import site, sysconfig; print("\n".join(dict.fromkeys([*site.getsitepackages(), sysconfig.get_path("purelib")])))' \
  >"$site/machine.pth"
# What wheels' entry points would be; the machine's own torchrun starts another Python.
printf '#!%s\nfrom llamafactory.cli import main\nmain()\n' "$venv/bin/python" >"$venv/bin/llamafactory-cli"
printf '#!%s\nfrom torch.distributed.run import main\nmain()\n' "$venv/bin/python" >"$venv/bin/torchrun"
chmod +x "$venv/bin/llamafactory-cli" "$venv/bin/torchrun"
# Else every first import would compile its files one after another.
"$venv/bin/python" -m compileall -q -j 0 "$site" >/dev/null 2>&1 || true
echo "$venv/bin/python"
