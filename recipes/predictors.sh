#!/usr/bin/env bash
# The predictors that come with the package, beside that of secondary structures (recipes/train_fold.py): weights/predictors/.
#
#     recipes/predictors.sh [REGISTRY] [SHARED]          # by default runs/predictors and ../shared
#
# Each is made by jobs/finetune.py on unirna-mini, on two cores in minutes to half an hour. Stopped, and run again, it goes on.
# Look at the cards, then copy the folders to weights/predictors/. They name the encoder's fingerprint: with other weights of
# unirna-mini they have to be made anew.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:-runs/predictors}
shared=${2:-../shared}
python=${PYTHON:-.venv/bin/python}
finetune() { "$python" jobs/finetune.py --registry "$registry" --compact --split-column split "$@"; }

finetune --task sirna --data "$shared/data/sirna_huesken/data.parquet" --sequence-column full_sequence --target-column inhibition \
  --unit "normalised inhibition" --mode lora --epochs 30 --patience 6 --workers 2 \
  --about "Inhibition by 2,431 siRNAs (guide strands of 21 nt), normalised as published: Huesken et al. 2005, Nat Biotechnol 23:995. \
Values from the paper's supplement, no licence stated; the published split (2,182 / 249), a tenth of its training part for validation."
finetune --task ribosome_load --data "$shared/bench/splits/mrl_m1psu2_20k.parquet" --target-column mrl \
  --unit "ribosomes" --mode lora --epochs 10 --batch-size 64 --workers 2 \
  --about "Mean ribosome load of 20,000 random 5'UTRs of 50 nt before eGFP, with 1-methylpseudouridine, in HEK293T cells: Sample et al. 2019, \
Nat Biotechnol 37:803 (GSE114002; GEO data from a GPL-3 repository). The random 5'UTRs end at the start codon."
finetune --task ncrna_class --data "$shared/data/nrc_13class/data.parquet" --label-column label --split-names train=train test=test13 --allow-copies \
  --about "13 classes of non-coding RNA: Fiannaca et al. 2017, BioData Min 10:27 (nRC; sequences of Rfam, CC0, from a GPL-3 repository). 13 % of \
its test rows stand in its training rows too: look at the rows of unseen sequences. Its training rows hold members of families of our retrieval benchmark."
