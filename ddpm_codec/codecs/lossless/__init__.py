"""The lossless codec: pictures to blocks and back, with bits-back coding or, if that is smaller, the fallback."""
