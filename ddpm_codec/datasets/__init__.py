"""Pictures in ``.ddpm`` files as a data set of PyTorch, for training of any kind; unlike the package, this imports torch.

Examples:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import torch
    >>> import ddpm_codec
    >>> from ddpm_codec.datasets import Archives, BlockBatches
    >>> folder = tempfile.TemporaryDirectory()
    >>> pictures = {f"{index}.png": np.full((8, 8, 3), index, np.uint8) for index in range(10)}
    >>> data = ddpm_codec.encode_archive(pictures, model="none", block_pixels=4 * 8 * 8)
    >>> _ = Path(folder.name, "train.ddpm").write_bytes(data)
    >>> dataset = Archives(folder.name)
    >>> batches = BlockBatches(dataset, 5, num_workers=0)
    >>> loader = torch.utils.data.DataLoader(dataset, batch_sampler=batches, num_workers=0)
    >>> [batch.shape for batch in loader]
    [torch.Size([5, 8, 8, 3]), torch.Size([5, 8, 8, 3])]
    >>> folder.cleanup()
"""

from ddpm_codec.datasets.archives import Archives
from ddpm_codec.datasets.sampling import BlockBatches, BlockShuffle

__all__ = ["Archives", "BlockBatches", "BlockShuffle"]
