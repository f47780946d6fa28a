"""The lossless codec: pictures to blocks and back, by bits-back coding or, where that is smaller, by the fallback."""
