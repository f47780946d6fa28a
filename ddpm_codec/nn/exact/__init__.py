"""The exact integer network: the same numbers on every device.

``parameters`` says what it is made of and proves that it cannot overflow; ``executor`` runs it in torch, with the ``kernels``
that are fastest on the device; ``freeze`` makes it from a trained network; ``storage`` turns it into named arrays and back.
"""
