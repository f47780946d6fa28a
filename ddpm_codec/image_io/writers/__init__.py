"""Writers of image formats: a picture and its metadata to the bytes of a file."""
