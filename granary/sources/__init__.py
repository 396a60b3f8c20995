"""What a source is: specs, their checks, and the modules of the project that hold them."""
