"""Opens models of any kind, offline and without running code from them."""

from pathlib import Path

from ddpm_codec.models.checkpoints.calibration import CALIBRATION, read_calibration
from ddpm_codec.models.checkpoints.opening import read_folder, weights_id
from ddpm_codec.models.ddpm_model import DdpmModel
from ddpm_codec.models.model_file import load_model
from ddpm_codec.models.protocol import CodecModel


def open_model(path: Path) -> CodecModel:
    """Open a model file, or the folder of a trained DDPM.

    Raises:
        ModelError: naming what is wrong with it.
    """
    return open_folder(path) if path.is_dir() else load_model(path)


def open_folder(folder: Path) -> DdpmModel:
    """Open the trained DDPM in ``folder`` with the calibration beside it, if there is one.

    Raises:
        ModelError: see :func:`~ddpm_codec.models.checkpoints.opening.read_folder`; or the calibration is damaged or of
            other weights.
    """
    published = read_folder(folder)
    # Hashing the weights takes a while: only where there is something to compare with.
    if not (folder / CALIBRATION).exists():
        return DdpmModel(published)
    return DdpmModel(published, read_calibration(folder, weights_id(published)))
