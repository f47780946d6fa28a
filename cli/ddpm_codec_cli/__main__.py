"""Run the command as ``python -m ddpm_codec_cli``, as ``torchrun -m`` needs it."""

import sys

from ddpm_codec_cli.main import main

sys.exit(main())
