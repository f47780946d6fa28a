"""x_0 given z_0 as streams of an entropy coder: the compiled loop of the pixel decoder, and who calls it."""
