"""The exact integer network: the same numbers on every device.

``parameters`` says what it is made of and proves that it cannot overflow; ``oracle`` runs it in numpy int64; ``executor`` in
torch, with the ``kernels`` that are fastest on the device; ``freeze`` makes it from a trained network.
"""
