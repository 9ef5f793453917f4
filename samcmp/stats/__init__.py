"""Statistics: plain arrays in, plain numbers out."""
