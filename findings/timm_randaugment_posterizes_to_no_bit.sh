#!/usr/bin/env bash
# timm's RandAugment ends a training with Pillow 13, at a few images in a thousand.
#
# Versions:  timm 1.0.31, Pillow 13.0.0 against 12.0.0, torch 2.14.1, torchvision 0.29.1
# Guess:     rand-m9-mstd0.5-inc1, the usual policy of timm's recipes, works with every Pillow that pip installs.
# Seen:      its magnitude is drawn around 9 with a deviation of 0.5, so some draws reach 10, for which PosterizeIncreasing
#            keeps 4 - 4 = 0 bits of a colour. Pillow 12 makes such an image black; Pillow 13 raises
#            "ValueError: bits must be between or equal to 1 and 8". The first images of a run pass.
# Way out:   let 0 bits mean a black image, as it did, or draw no magnitude above 9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0

cat >"$folder/seen.py" <<'PYTHON'
import random

import numpy
import PIL
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

random.seed(0)
numpy.random.seed(0)
image = Image.fromarray(numpy.random.randint(256, size=(32, 32, 3), dtype=numpy.uint8))
policy = rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": 10})
for number in range(1, 2001):
    try:
        policy(image)
    except ValueError as error:
        print(f"Pillow {PIL.__version__}: image {number}: {error}")
        break
else:
    print(f"Pillow {PIL.__version__}: 2000 images, no error")
PYTHON

new=$("$python" "$folder/seen.py")
"$python" -m pip install --quiet pillow==12.0.0
old=$("$python" "$folder/seen.py")
printf '%s\n%s\n' "$new" "$old"
[[ "$new" == *"image "*": bits must be between or equal to 1 and 8" ]]
[[ "$old" == *"2000 images, no error" ]]
