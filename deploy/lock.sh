#!/bin/sh
# Renews constraints.txt: installs everything afresh beside the project and writes down what pip chose.
#     make lock [TORCH=2.13.0]
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --upgrade pip
$pip install --quiet "torch==${TORCH:-2.13.0}" --editable '.[platform,viz,map]' --group dev --group bench hatchling
{
    echo "# Versions that were installed and tested together. Renew with: make lock"
    $pip freeze --all --exclude-editable | sed -E 's/\+cpu$//'
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) versions"
