"""Loading: what people write on the command line, in tables and in notebooks becomes values."""
