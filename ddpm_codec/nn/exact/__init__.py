"""The exact integer networks: the same numbers on every device.

``parameters`` says what a denoiser is made of and proves that it cannot overflow; ``executor`` runs it in torch, with the
``kernels`` that are fastest on the device; ``freeze`` makes it from a trained network; ``storage`` turns it into named arrays
and back; ``bound`` evaluates bounds with it. The modules ``decoder_*`` do the same for the pixel decoder.
"""
